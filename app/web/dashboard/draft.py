"""A job as a form holds it: as text, which becomes a request, and which is made of one."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from app.domain.deployments import with_defaults
from app.domain.generated import GENERATED
from app.domain.jobs import MAX_STEPS, JobRequest
from app.domain.methods import methods
from app.domain.recommendations import Minimize
from app.web import problems
from app.web.dashboard.forms import Field, Kind, fields, parts_of_request

MORE = ("deliver", "evaluate", "requires", "limits", "priority", "seed", "tags", "webhook")
"""What a job's request has beside what a person decides first."""

_NAME = r"([a-z_]{1,40}(?:\.[a-z_0-9]{1,40}){0,2})"
_STEP = re.compile(rf"steps\.(\d{{1,2}})\.{_NAME}")
_MORE = re.compile(rf"more\.{_NAME}")


@dataclass
class Draft:
    """What a person has filled in so far."""

    model: str = ""
    dataset: str = ""
    """Its id; ``generated`` for samples that are made from the model."""
    name: str = ""
    max_quality_drop: str = ""
    target: str = ""
    """Where the model is to run: a deployment, a device, or a label of workers; empty: anywhere."""
    minimize: Minimize = "latency"
    """What advice is to make less of."""
    steps: list[dict[str, str]] = field(default_factory=list)
    """Of each step its ``method`` and the parameters that were filled in.

    A part of a parameter has the path of its names, such as ``recover.epochs`` or
    ``losses.0.kind``.
    """
    more: dict[str, str] = field(default_factory=dict)
    """The fields of ``MORE`` that were filled in."""

    def body(self) -> dict[str, Any]:
        """Return the request that this asks for; what is left blank is left out."""
        body: dict[str, Any] = {"model": self.model} if self.model else {}
        if self.dataset:
            body["data" if self.dataset == GENERATED else "dataset"] = self.dataset
        if self.name.strip():
            body["name"] = self.name.strip()
        body["steps"] = [
            {"method": step["method"], **values(of_method(step["method"]), step)}
            for step in self.steps
        ]
        if self.target:
            body["target"] = self.target
        if self.max_quality_drop.strip():
            drop = {"max_quality_drop": self.max_quality_drop}
            body["require"] = values(of_request(("require",))["require"].parts, drop)
        return body | values(of_request(MORE), self.more)

    def named(self, kind: Kind) -> list[str]:
        """Return the uploads of a kind that fields name, the job's own first."""
        first = {"model": [self.model], "dataset": [self.dataset]}.get(kind, [])
        steps = [
            each for step in self.steps for each in named(of_method(step["method"]), step, kind)
        ]
        return [*first, *steps, *named(of_request(MORE), self.more, kind)]


def sent(form: Mapping[str, str]) -> Draft:
    """Return what a form holds; what it does not know is passed over."""
    steps: dict[int, dict[str, str]] = {}
    for name, text in form.items():
        match = _STEP.fullmatch(name)
        if match and int(match[1]) < MAX_STEPS:
            steps.setdefault(int(match[1]), {})[match[2]] = text
    known = {method.method for method in methods()}
    return Draft(
        model=form.get("model", ""),
        dataset=form.get("dataset", ""),
        name=form.get("name", ""),
        max_quality_drop=form.get("max_quality_drop", ""),
        target=form.get("target", ""),
        minimize=_minimize(form.get("minimize")),
        steps=[step for _, step in sorted(steps.items()) if step.get("method") in known],
        more=sent_more(form),
    )


def sent_more(form: Mapping[str, str]) -> dict[str, str]:
    """Return the rest of a request that a form holds: its fields are called ``more.<name>``."""
    return {match[1]: text for name, text in form.items() if (match := _MORE.fullmatch(name))}


def like(request: JobRequest) -> Draft:
    """Return the form that asks for what another job was asked to do."""
    limit = request.require.max_quality_drop
    return Draft(
        model=request.model,
        dataset=request.samples or "",
        name=request.name or "",
        max_quality_drop="" if limit is None else repr(limit),
        target=request.target or "",
        steps=[
            typed_step({"method": step.method, **_changed(step, _usual_step(request, step.method))})
            for step in request.steps or []
        ],
        more=more_of(request, MORE),
    )


def more_of(request: JobRequest, names: tuple[str, ...]) -> dict[str, str]:
    """Return those of the named fields as text that are not what they are when left blank."""
    usual = with_defaults({"target": request.target})
    del usual["target"]
    return typed(of_request(names), _changed(request, usual))


def typed_step(step: Mapping[str, Any]) -> dict[str, str]:
    """Return a step as a person would have typed it."""
    method = str(step["method"])
    return {"method": method, **typed(of_method(method), step)}


def typed(known: Mapping[str, Field], given: Mapping[str, Any], within: str = "") -> dict[str, str]:
    """Return the values of known fields as a person would have typed them, by their paths."""
    texts: dict[str, str] = {}
    for name, value in given.items():
        if name in known:
            texts[within + name] = known[name].text(value)
            inside = value
            if known[name].kind == "rows" and value is not None:
                inside = {str(row): each for row, each in enumerate(value)}
            if isinstance(inside, dict):
                texts |= typed(known[name].parts, inside, f"{within}{name}.")
    return texts


def values(
    known: Mapping[str, Field], given: Mapping[str, str], within: str = ""
) -> dict[str, Any]:
    """Return what was typed into known fields as values; what is left blank is left out.

    A group is there where its switch says so, or one of its parts was filled in. A list of rows
    goes to the last one that was filled in; an empty one before it is refused at its place.
    """
    found: dict[str, Any] = {}
    for name, each in known.items():
        inside = values(each.parts, given, f"{within}{name}.")
        text = given.get(within + name, "").strip()
        if inside and each.kind == "rows":
            found[name] = [inside.get(str(row), {}) for row in range(max(map(int, inside)) + 1)]
        elif inside or (each.kind == "group" and text == "yes"):
            found[name] = inside
        elif text:
            found[name] = each.value(text)
    return found


def named(
    known: Mapping[str, Field], given: Mapping[str, str], kind: Kind, within: str = ""
) -> Iterator[str]:
    """Yield the uploads of a kind that fields name; what is chosen beside uploads is none."""
    for name, each in known.items():
        text = given.get(within + name, "").strip()
        if each.kind == kind and text and text not in each.choices:
            yield text
        yield from named(each.parts, given, kind, f"{within}{name}.")


@lru_cache
def of_method(method: str) -> Mapping[str, Field]:
    """Return the fields of a method's form by their names."""
    return {
        each.name: each for known in methods() if known.method == method for each in fields(known)
    }


@lru_cache
def of_request(names: tuple[str, ...]) -> Mapping[str, Field]:
    """Return fields of a job's request by their names."""
    return {each.name: each for each in parts_of_request(names)}


def checked(body: Mapping[str, Any]) -> JobRequest:
    """Return the request.

    Raises:
        Invalid: It is not one, each fault at its place.
    """
    try:
        return JobRequest.model_validate_json(json.dumps(body))
    except ValidationError as error:
        raise problems.unfit(error, body) from None


def _changed(part: BaseModel, usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request, or of a step, that differ from their defaults.

    Args:
        part: the request or step.
        usual: what its target has some fields be in place of their own defaults.
    """
    not_default = part.model_dump(exclude_defaults=True).keys()
    return {
        name: value
        for name, value in part.model_dump(mode="json").items()
        if (value != usual[name] if name in usual else name in not_default)
    }


def _usual_step(request: JobRequest, method: str) -> dict[str, Any]:
    asked = with_defaults({"target": request.target, "steps": [{"method": method}]})
    usual: dict[str, Any] = asked["steps"][0]
    return usual


def _minimize(text: str | None) -> Minimize:
    return next((known for known in get_args(Minimize) if known == text), "latency")
