"""Fields of forms, made from the JSON Schemas of methods and requests; none is written twice."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic_core import from_json

from app.domain.frozen import words
from app.domain.jobs import JobRequest
from app.domain.methods import Method

Kind = Literal["choice", "flag", "number", "whole", "lines", "text", "json", "group"]

_PLAIN = {"boolean": "flag", "integer": "whole", "number": "number", "string": "text"}
_FIRST: Mapping[str, tuple[str, ...]] = {
    "prune": ("granularity", "ratio", "of", "sparsity", "criterion", "recover"),
    "quantize": ("mode", "weights", "activations", "ranges"),
    "distill": ("student", "recover"),
    "low_rank": ("decomposition", "ratio", "of", "recover"),
    "cluster": ("clusters",),
    "subnet": ("ratio", "of"),
    "supernet": ("recover",),
}
"""What a person decides first; the rest is folded away."""


_READ: dict[Kind, Callable[[str], Any]] = {
    "choice": str,
    "text": str,
    "group": str,
    "flag": lambda text: {"yes": True, "no": False}.get(text, text),
    "whole": int,
    "number": float,
    "json": from_json,  # bounded in depth: json.loads ends deep nesting with a RecursionError
    "lines": lambda text: [line.strip() for line in text.splitlines() if line.strip()],
}


@dataclass(frozen=True)
class Field:
    """One parameter of a method, or part of a request, as a form shows it."""

    name: str
    title: str
    kind: Kind
    description: str
    default: str
    choices: list[str]
    least: str
    most: str
    advanced: bool
    parts: Mapping[str, "Field"] = field(default_factory=dict)
    """The fields of a group, by their names."""

    def value(self, text: str) -> Any:
        """Return what a person typed as the parameter's value; text that does not fit stays text.

        Whoever checks the request then says what is wrong with it.
        """
        try:
            return _READ[self.kind](text)
        except ValueError:
            return text

    def text(self, value: Any) -> str:
        """Return a value of the parameter as a person would type it: what ``value`` reads back."""
        return _written(self.kind, value)


def fields(method: Method) -> list[Field]:
    """Return the parameters of a method, those that a person decides first at the top."""
    schema = method.json_schema
    first = _FIRST.get(method.method, ())
    found = [
        _field(name, about, schema.get("$defs", {}), advanced=name not in first)
        for name, about in schema["properties"].items()
        if name != "method"
    ]
    return sorted(found, key=lambda field: first.index(field.name) if field.name in first else 99)


def parts_of_request(names: Iterable[str]) -> list[Field]:
    """Return some fields of a job's request, in this order."""
    schema = JobRequest.model_json_schema()
    return [
        _field(name, schema["properties"][name], schema["$defs"], advanced=True) for name in names
    ]


def _field(
    name: str, about: Mapping[str, Any], parts: Mapping[str, Any], *, advanced: bool
) -> Field:
    kinds = list(_kinds(about, parts))
    default = about.get("default")
    choices = [
        str(value)
        for kind in (*kinds, *(kind.get("items", {}) for kind in kinds))
        for value in (*kind.get("enum", ()), *([kind["const"]] if "const" in kind else ()))
    ]
    bounds = next((kind for kind in kinds if kind.get("type") in {"integer", "number"}), {})
    kind = _kind(kinds, choices)
    described = (each["description"] for each in (about, *kinds) if "description" in each)
    inside = _inside(kinds, default or {}) if kind == "group" else {}
    return Field(
        name=name,
        title=about.get("title") or words(name),
        kind=kind,
        description=str(next(described, "")),
        default=_written(kind, default),
        choices=choices,
        least=str(bounds.get("minimum", bounds.get("exclusiveMinimum", ""))),
        most=str(bounds.get("maximum", bounds.get("exclusiveMaximum", ""))),
        advanced=advanced,
        parts={
            part: _field(part, about_part, parts, advanced=True)
            for part, about_part in inside.items()
        },
    )


def _inside(
    kinds: Iterable[Mapping[str, Any]], default: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """Return the schemas of all fields that an object may have, with the object's defaults."""
    return {
        name: {**about, "default": default.get(name, about.get("default"))}
        for kind in kinds
        for name, about in kind["properties"].items()
    }


def _kinds(about: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the schemas that a value may fit, null aside."""
    if "$ref" in about:
        yield from _kinds(parts[about["$ref"].split("/")[-1]], parts)
        return
    branches = about.get("anyOf") or about.get("oneOf")
    for each in branches or [about]:
        if branches:
            yield from _kinds(each, parts)
        elif each.get("type") != "null":
            yield each


def _kind(kinds: list[Mapping[str, Any]], choices: list[str]) -> Kind:
    types = {str(kind.get("type", "string")) for kind in kinds}
    if choices and types <= {"string"}:
        return "choice"
    if kinds and all("properties" in kind for kind in kinds):
        return "group"
    if types == {"array"} and kinds[0].get("items", {}).get("type") == "string":
        return "lines"
    if len(types) == 1 and (plain := _PLAIN.get(next(iter(types)))) is not None:
        return plain  # type: ignore[return-value]
    return "json"


def _written(kind: Kind, value: Any) -> str:
    """Return a value as a person would type it into a field of this kind."""
    if value is None:
        return ""
    if kind == "group":
        return "yes"
    if kind == "flag":
        return "yes" if value else "no"
    if kind == "lines":
        return "\n".join(value)
    return value if isinstance(value, str) else json.dumps(value)
