"""What a request asks for that is possible, and hardly what is meant: said at its place."""

from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from app.domain.jobs import JobRequest
from app.domain.metrics import METRICS, Kind, usual
from app.domain.models import ModelDescription
from app.domain.plans import Doubt
from app.domain.steps import matches
from app.domain.steps.quantize import Quantize
from app.domain.wording import listed
from app.services.inputs import Inputs

_NAMED = 5
"""Names that a sentence has at most."""

_OF_ONE: frozenset[Kind] = frozenset({"share", "score", "rate"})
"""Figures of which 1 is all."""


def doubts(request: JobRequest, inputs: Inputs) -> Iterator[Doubt]:
    """Yield what is accepted, and does not do what it seems to ask for."""
    yield from _loose(request, inputs)
    if inputs.model.description is not None:
        yield from _unmatched(request, inputs.model.description)


def _loose(request: JobRequest, inputs: Inputs) -> Iterator[Doubt]:
    """Yield bounds that bound nothing: percent that were meant, and typed without their sign."""
    bounds = {"#/require": request.require}
    if request.objective is not None:
        bounds["#/objective/subject_to"] = request.objective.subject_to
    for pointer, require in bounds.items():
        drop = require.max_quality_drop
        if drop is not None and drop >= 1 and _kind(request, inputs) in _OF_ONE:
            meant = f" Write {drop / 100:g} for {drop:g} %." if drop <= 100 else ""
            yield Doubt(
                pointer=f"{pointer}/max_quality_drop",
                reason=f"'max_quality_drop' of {drop:g} bounds nothing: 1 is all of the quality,"
                f" and one point is 0.01.{meant}",
            )


def _kind(request: JobRequest, inputs: Inputs) -> Kind | None:
    """Return what sort of figure is bounded; None where that is not known, or the user's own."""
    if request.evaluate.metric_graph is not None:
        return None
    if request.evaluate.named_metric is not None:
        return METRICS[request.evaluate.named_metric].kind
    if inputs.judged is None:
        return "share"
    judged = inputs.judged.description
    if judged is None:
        return None
    return "share" if judged.targets is None else METRICS[usual(judged.targets.dtype)].kind


def _unmatched(request: JobRequest, model: ModelDescription) -> Iterator[Doubt]:
    """Yield names of layers and operators in steps that the model does not have."""
    layers = [layer.name for layer in model.layers]
    nodes = {*layers, *(node.name for node in model.nodes)}
    operators = {*model.operators, *(layer.operator for layer in model.layers)}
    if not layers:
        return
    for index, step in enumerate(request.steps or ()):
        patterns: Iterable[str] = getattr(step, "ignore", ())
        unknown = (each for each in patterns if not _found(each, nodes))
        if absent := [*islice(unknown, _NAMED)]:
            yield Doubt(
                pointer=f"#/steps/{index}/ignore",
                reason=f"Step {index + 1} ({step.method}): no layer of the model is called"
                f" {_listed(absent)}, as 'ignore' has it. There are {_listed(layers)}.",
            )
        chosen = step.operators if isinstance(step, Quantize) else None
        if absent := [name for name in chosen or () if name not in operators]:
            yield Doubt(
                pointer=f"#/steps/{index}/operators",
                reason=f"Step {index + 1} ({step.method}): the model has no operator"
                f" {_listed(absent)}. It has {_listed(sorted(operators))}.",
            )


def _found(pattern: str, names: Collection[str]) -> bool:
    return pattern in names or any(matches(name, (pattern,)) for name in names)


def _listed(names: Iterable[str]) -> str:
    return listed([f"'{name}'" for name in names], _NAMED)
