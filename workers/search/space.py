"""The space of pipelines, from the steps' own fields: which methods, which parameters, what order.

A field of a step that may be varied says over what, as ``search`` in its JSON Schema:
``{"low", "high", "log"?}`` or ``{"choices"}``; ``within`` names parts of the field by their path,
and ``when`` the values of other fields with which it matters.
Which pipelines make sense follows from what steps say of themselves: ``needs``, ``refuses``,
``saves``, ``place``, and the layers that their forecast skips.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import ValidationError

from app.domain import homecoming
from app.domain.deployments import DEPLOYMENTS, Deployment
from app.domain.layer_forms import LAYER_FORMS, LayerForm
from app.domain.searches import Goal
from app.domain.sensitivity import Sensitivity
from app.domain.steps import METHODS, AnyStep, Outlook, Step
from workers.search.choices import (
    SKIP,
    USE,
    USED,
    Among,
    Between,
    Choose,
    Domain,
    Genome,
    Value,
    at_random,
)

MAX_STEPS = 5
LEAST_MINUTES = 0.05
"""The least that a trial may run, or a step train: less is left of a budget for a moment only."""
_SHARES = 2.0
"""Of a trial's part of the budget's minutes that its trainings may take together."""
_DRAWS = 200
"""Tries to draw a pipeline that makes sense."""


def allowed(minutes: float) -> float:
    """Return minutes of the budget as what a step may train for: rounded, and not too few."""
    return round(max(LEAST_MINUTES, minutes), 3)


def trained(step: AnyStep, **settings: float) -> AnyStep:
    """Return a step with other settings of its training; one that does not train stays as it is."""
    if step.recover is None:
        return step
    return step.model_copy(update={"recover": step.recover.model_copy(update=settings)})


def bounded(steps: Sequence[AnyStep], minutes: float, **settings: float) -> list[AnyStep]:
    """Return steps whose trainings take so many minutes together at most, each the same part.

    Args:
        steps: in their order; those that do not train stay as they are.
        minutes: of the budget.
        settings: others of each training.
    """
    part = allowed(minutes / max(trainings(steps), 1))
    return [trained(step, minutes=part, **settings) for step in steps]


def trainings(steps: Sequence[AnyStep]) -> int:
    """Return how many steps train."""
    return sum(step.recover is not None for step in steps)


@dataclass(frozen=True)
class Facts:
    """What is known before the first trial."""

    goal: Goal
    bound: float
    """Of the loss of quality."""
    outlook: Outlook
    data: Literal["none", "inputs", "targets"]
    trainable: bool
    trials: int
    """Of the budget."""
    share: float
    """The minutes of the budget that are one trial's, where all take as many."""
    chart: Sensitivity | None = None
    """What layers lose and save in smaller forms, where that was measured."""
    target: str | None = None
    """Of the request: where it is a deployment, it says what steps leave at their defaults."""
    forms: frozenset[LayerForm] = frozenset(LAYER_FORMS)
    """What layers may become: each wanted format holds it."""
    timed_here: bool = True
    """Whether the latency that counts is that of onnxruntime on the worker, as layers' times are:
    not of another runtime, and not of a device."""

    to_source: bool = False
    """Whether the weights are to go back to the upload's own layers, so that these must stay."""

    @property
    def minutes(self) -> float:
        """That the steps of one trial may train for: two shares, as not all trials train."""
        return allowed(min(_SHARES, self.trials) * self.share)

    @property
    def trains(self) -> bool:
        """Whether steps may train."""
        return self.trainable and self.data != "none"


@dataclass(frozen=True)
class Parameter:
    """A parameter of a step, with the values that a search tries."""

    domain: Domain
    when: Mapping[str, Sequence[Value]]
    """Other fields of the step, and the values of them with which this one matters."""


@dataclass(frozen=True)
class Space:
    """The pipelines that may be tried."""

    facts: Facts

    @cached_property
    def methods(self) -> dict[str, dict[str, Parameter]]:
        """The parameters of each method that makes sense with some values of them, in order."""
        rng = random.Random(0)  # noqa: S311 (a choice of pipelines keeps no secret)
        usable = {}
        for method in METHODS:
            name = str(method.model_fields["method"].default)
            parameters = _parameters(method, trains=self.facts.trains)
            drawn = (_drawn(name, parameters, at_random(rng)) for _ in range(_DRAWS))
            if any(self.fits([step]) for step in map(_step, drawn) if step is not None):
                usable[name] = parameters
        return usable

    @property
    def domains(self) -> dict[str, Domain]:
        """What each choice of a genome is made among, by its name."""
        found: dict[str, Domain] = {}
        for method, parameters in self.methods.items():
            found[method] = USED
            found |= {f"{method}.{name}": each.domain for name, each in parameters.items()}
        return found

    def draw(self, choose: Choose) -> tuple[list[AnyStep], Genome] | None:
        """Return a pipeline that ``choose`` made, and its choices; None where it makes no sense."""
        genome: Genome = {}

        def noted(name: str, domain: Domain) -> Value:
            genome[name] = choose(name, domain)
            return genome[name]

        steps = []
        for method, parameters in self.methods.items():
            if noted(method, USED) == USE:
                step = _step(_drawn(method, parameters, noted))
                if step is None:
                    return None
                steps.append(step)
        ordered = in_order(bounded(steps, self.facts.minutes))
        return (ordered, genome) if self.fits(ordered) else None

    def draws(self, choose: Callable[[], Choose]) -> Iterator[tuple[list[AnyStep], Genome]]:
        """Return pipelines that make sense, one after the other, until they become too rare."""
        missed = 0
        while missed < _DRAWS:
            drawn = self.draw(choose())
            if drawn is None:
                missed += 1
            else:
                missed = 0
                yield drawn

    def genome(self, steps: Sequence[AnyStep]) -> Genome:
        """Return the choices of a pipeline, as far as they are among those of this space."""
        found: Genome = dict.fromkeys(self.methods, SKIP)
        for step in steps:
            found[step.method] = USE
            body = step.model_dump(mode="json")
            for name in self.methods.get(step.method, {}):
                value = _at(body, name.split("."))
                if value is not None:
                    found[f"{step.method}.{name}"] = value
        return found

    def fits(self, steps: Sequence[AnyStep]) -> bool:
        """Return whether a pipeline makes sense: each step does, and may follow those before it."""
        if not 0 < len(steps) <= MAX_STEPS:
            return False
        provided: set[str] = set()
        wanted = {trait for step in steps for trait in step.follows}
        for step in steps:
            saves = self.facts.goal in step.saves or bool(wanted & set(step.traits))
            if not (saves and self.suits(step)) or provided & set(step.refuses):
                return False
            if not provided.issuperset(step.follows):
                return False
            provided |= set(step.traits)
        return not (self.facts.to_source and any(homecoming.obstacles(steps)))

    def completed(self, steps: Sequence[AnyStep]) -> list[AnyStep]:
        """Return steps with what the target asks for in place of defaults, as in any other job."""
        deployment = DEPLOYMENTS.get(self.facts.target or "")
        return [step if deployment is None else _as_asked(deployment, step) for step in steps]

    def suits(self, step: AnyStep) -> bool:
        """Return whether a step can be done here, and changes something."""
        facts, needs = self.facts, step.needs
        if needs.data == "targets" and facts.data != "targets":
            return False
        if needs.data == "inputs" and facts.data == "none":
            return False
        if needs.trainable and not facts.trainable:
            return False
        if step.layer_form is not None and step.layer_form not in facts.forms:
            return False
        layers = facts.outlook.layers
        return len(step.forecast(facts.outlook).skipped) < len(layers)


def in_order(steps: Sequence[AnyStep]) -> list[AnyStep]:
    """Return steps in the order that works: depth and width, rank, zeros or shared values, bits."""
    return sorted(steps, key=lambda step: step.place)


def _as_asked(deployment: Deployment, step: AnyStep) -> AnyStep:
    chosen = step.model_dump(exclude_defaults=True)
    completed: AnyStep = type(step).model_validate({**deployment.of_method(step.method), **chosen})
    return completed


def _parameters(method: type[Step], *, trains: bool) -> dict[str, Parameter]:
    """Return the fields of a method that may be varied, by their path within the step."""
    found: dict[str, Parameter] = {}
    for name, field in method.model_fields.items():
        search = _search(field.json_schema_extra)
        if search is None or (name == "recover" and not trains):
            continue
        when = search.get("when", {})
        parts = search.get("within")
        domains = {name: search} if parts is None else {f"{name}.{at}": parts[at] for at in parts}
        found |= {path: Parameter(_domain(each), when) for path, each in domains.items()}
    return found


def _search(extra: object) -> dict[str, Any] | None:
    search = extra.get("search") if isinstance(extra, dict) else None
    return search if isinstance(search, dict) else None


def _domain(search: Mapping[str, Any]) -> Domain:
    if "choices" in search:
        return Among(tuple(search["choices"]))
    return Between(search["low"], search["high"], log=bool(search.get("log")))


def _drawn(method: str, parameters: Mapping[str, Parameter], choose: Choose) -> dict[str, Any]:
    """Return a step's body, with those parameters that matter beside the others."""
    body: dict[str, Any] = {"method": method}
    for name, parameter in parameters.items():
        if all(body.get(other) in values for other, values in parameter.when.items()):
            *outer, last = name.split(".")
            place = body
            for part in outer:
                place = place.setdefault(part, {})
            place[last] = choose(f"{method}.{name}", parameter.domain)
    return body


def _at(body: object, path: Sequence[str]) -> Value | None:
    """Return the value at a path of a body, None where there is none."""
    for part in path:
        body = body.get(part) if isinstance(body, dict) else None
    return body if isinstance(body, float | int | str) else None


def _step(body: Mapping[str, Any]) -> AnyStep | None:
    """Return the step of a body, None where its values do not go together."""
    method = next(each for each in METHODS if each.model_fields["method"].default == body["method"])
    try:
        step: Any = method.model_validate(body)
    except ValidationError:
        return None
    found: AnyStep = step
    return found
