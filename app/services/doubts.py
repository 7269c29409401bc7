"""What a request asks for that is possible, and hardly what is meant: said at its place."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from app.domain.datasets import spare
from app.domain.jobs import EVALUATE_DATASET_POINTER, JobRequest
from app.domain.metrics import METRICS, Kind, usual
from app.domain.models import ModelDescription, quantized_operators
from app.domain.plans import Doubt
from app.domain.steps import matches
from app.domain.steps.quantize import Quantize
from app.domain.wording import listed
from app.services.inputs import Inputs

ALL_STEPS = "#/steps"
"""The place of what is doubtful of the steps together."""

_NAMED = 5
"""Names that a sentence has at most."""

_REASONS = 3
"""Reasons that a sentence gives at most."""

_OF_ONE: frozenset[Kind] = frozenset({"share", "score", "rate"})
"""Figures of which 1 is all."""


def doubts(
    request: JobRequest,
    inputs: Inputs,
    idle: Mapping[int, Sequence[str]],
    ruined_before: str | None,
) -> Iterator[Doubt]:
    """Yield what is accepted, and does not do what it seems to ask for.

    Args:
        request: the request.
        inputs: what it names.
        idle: the steps that will change nothing, and why.
        ruined_before: the job that ruined the model by these steps, if one did.
    """
    if ruined_before is not None:
        yield Doubt(
            pointer=ALL_STEPS,
            reason=f"The job “{ruined_before}” took these steps on this model and data, and its"
            " file does NOT do what the original does. Change the steps, or the data.",
        )
    yield from _loose(request, inputs)
    if names := unheard(request, inputs):
        yield _misnamed(inputs, names)
    model = inputs.model.description
    if model is not None:
        yield from _untouchable(request, model)
        yield from _of_steps(request, model, idle)


def unheard(request: JobRequest, inputs: Inputs) -> list[str]:
    """Return the arrays that nothing reads of data without targets: one of them may hold these."""
    data = None if inputs.judged is None else inputs.judged.description
    model = inputs.model.description
    if data is None or model is None or data.targets or request.evaluate.metric_graph is not None:
        return []
    return spare(data, model.inputs)


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


def _misnamed(inputs: Inputs, names: Sequence[str]) -> Doubt:
    """Say that data may hold the right answers under another name than theirs."""
    one = len(names) == 1
    return Doubt(
        pointer=EVALUATE_DATASET_POINTER if inputs.evaluate_dataset else "#/dataset",
        reason="The right answers are looked for under the name 'targets', and the dataset has"
        " none: the result is compared with the original model. Nothing reads"
        f" {_listed(names)}: if {'it holds' if one else 'one of them holds'} the right answers,"
        f" call it 'targets', and upload the dataset again.",
    )


def _untouchable(request: JobRequest, model: ModelDescription) -> Iterator[Doubt]:
    """Yield that a model has nothing, as far as is known, that steps work on."""
    if request.steps == []:
        return
    if already := quantized_operators(model.operators):
        yield Doubt(
            pointer="#/model",
            reason=f"The model is quantized already (it holds {listed(already, _NAMED)}): what is"
            " stored in integers stays as it is, so steps may change nothing. Upload the model as"
            " it was before that.",
        )
    elif not model.layers:
        reason = "The model has no layer with weights: steps may change nothing."
        yield Doubt(pointer="#/model", reason=reason)


def _of_steps(
    request: JobRequest, model: ModelDescription, idle: Mapping[int, Sequence[str]]
) -> Iterator[Doubt]:
    """Yield what steps name and the model does not have, and the steps that will change nothing."""
    if not model.layers:
        return
    layers = [layer.name for layer in model.layers]
    nodes = {*layers, *(node.name for node in model.nodes)}
    operators = {*model.operators, *(layer.operator for layer in model.layers)}
    for index, step in enumerate(request.steps or ()):
        place, called = f"#/steps/{index}", f"Step {index + 1} ({step.method})"
        patterns: Iterable[str] = getattr(step, "ignore", ())
        unknown = (each for each in patterns if not _found(each, nodes))
        if absent := [*islice(unknown, _NAMED)]:
            yield Doubt(
                pointer=f"{place}/ignore",
                reason=f"{called}: no layer of the model is called {_listed(absent)}, as 'ignore'"
                f" has it. There are {_listed(layers)}.",
            )
        chosen = (step.operators or []) if isinstance(step, Quantize) else []
        absent = [name for name in chosen if name not in operators]
        hopeless = index in idle and bool(absent) and absent == chosen
        if index in idle and not hopeless:
            why = "; ".join(idle[index][:_REASONS])
            yield Doubt(pointer=place, reason=f"{called} will change nothing: {why}.")
        if absent:
            so = " will change nothing" if hopeless else ""
            yield Doubt(
                pointer=f"{place}/operators",
                reason=f"{called}{so}: the model has no operator {_listed(absent)}. It has"
                f" {_listed(sorted(operators))}.",
            )


def _found(pattern: str, names: Collection[str]) -> bool:
    return pattern in names or any(matches(name, (pattern,)) for name in names)


def _listed(names: Iterable[str]) -> str:
    return listed([f"'{name}'" for name in names], _NAMED)
