"""Plans a job from descriptions alone: what it would do, or why it is refused.

The same refusals make ``POST /v1/jobs`` fail, so that a plan that is ``ok`` is accepted.
"""

from collections.abc import Collection, Iterator, Sequence

from app.domain import generated
from app.domain.jobs import METRIC_GRAPH_POINTER, JobRequest
from app.domain.plans import Estimate, Plan, PlannedSkip, Refusal, Remark
from app.domain.problems import FieldError
from app.domain.steps import Outlook, forecasts
from app.domain.wording import minutes
from app.services import format_warnings, refusals
from app.services.doubts import doubts, unheard
from app.services.inputs import Inputs


def plan(request: JobRequest, inputs: Inputs, ruined_before: str | None = None) -> Plan:
    """Return the plan of a request: its steps, and what is refused, skipped and expected.

    Args:
        request: what is asked for.
        inputs: what it names.
        ruined_before: the job that ruined the model by these steps, if one did.
    """
    faults = list(refusals.faults(request, inputs))
    estimate, skipped, remarks = _forecast(request, inputs)
    idle = dict(_idle(request, inputs, skipped))
    doubtful = [*doubts(request, inputs, idle, ruined_before)]
    return Plan(
        ok=not faults,
        steps=request.steps or [],
        refused=[
            Refusal(index=fault.index, pointer=fault.pointer, reason=fault.reason)
            for fault in faults
        ],
        skipped=skipped,
        idle=[*idle],
        warnings=[
            *_warnings(request, inputs),
            *_unchosen(request, idle),
            *format_warnings.warnings(request, inputs.model.description),
            *(doubt.reason for doubt in doubtful),
        ],
        doubts=doubtful,
        remarks=remarks,
        estimate=estimate,
    )


def require_possible(request: JobRequest, inputs: Inputs) -> None:
    """Raise the problem of the first fault, with all faults in its ``errors``."""
    faults = list(refusals.faults(request, inputs))
    if faults:
        raise faults[0].kind(
            " ".join(fault.reason for fault in faults),
            errors=[FieldError(pointer=fault.pointer, detail=fault.reason) for fault in faults],
        )


def _warnings(request: JobRequest, inputs: Inputs) -> Iterator[str]:
    if inputs.model.description is None and not inputs.model.rejected:
        yield "The model is still being inspected: nothing could be checked against it."
    judged = inputs.judged
    if request.data is not None and request.dataset is None:
        yield (
            "Samples are made from the model: they are not real data, and have no labels. Name real"
            " samples in 'evaluate.dataset' to know the quality."
        )
    elif judged is None:
        yield "Without a dataset the result is compared with the original on random inputs alone."
    if (
        judged is not None
        and judged.description
        and judged.description.targets is None
        and request.evaluate.metric_graph is None
        and not unheard(request, inputs)
    ):
        yield "The dataset has no targets: the result is compared with the original model."
    metric = inputs.other_models.get(METRIC_GRAPH_POINTER)
    if metric is not None and metric.description is None and not metric.rejected:
        yield f"{metric.called} is still being inspected: the metric could not be checked."
    for dataset in inputs.datasets.values():
        if dataset.description is None and not dataset.rejected:
            yield f"{dataset.called} is still being inspected: it could not be checked."
    if inputs.target_fault is None and request.requires.lacking(inputs.workers):
        yield (
            f"No worker of this deployment has {request.requires.words}: the job waits for one, for"
            f" {minutes(request.limits.pending_minutes)} at most."
        )
    if request.require.max_quality_drop is not None and judged is None:
        samples = "random inputs" if request.data is None else "generated samples"
        yield f"Without a dataset 'max_quality_drop' bounds the difference on {samples}."


def _unchosen(request: JobRequest, idle: Collection[int]) -> Iterator[str]:
    """Say what a step cannot give that chooses what layers become by what samples show."""
    for index, step in enumerate(request.steps or ()):
        if step.chooses_forms and request.samples is None and index not in idle:
            yield (
                f"Without data step {index + 1} ({step.method}) only stores weights in fewer bits:"
                " the file gets smaller, and the model no faster. Choose data in 'dataset', or have"
                " them made ('data': 'generated'), and layers compute in integers where that pays."
            )


def _idle(
    request: JobRequest, inputs: Inputs, skipped: Sequence[PlannedSkip]
) -> Iterator[tuple[int, list[str]]]:
    """Yield the steps that leave every layer alone, and why they do."""
    model = inputs.model.description
    if model is None or not model.layers:
        return
    layers = {layer.name for layer in model.layers}
    for index in range(len(request.steps or ())):
        skips = [skip for skip in skipped if skip.index == index]
        if layers <= {skip.node for skip in skips}:
            yield index, sorted({skip.reason for skip in skips})


def _forecast(
    request: JobRequest, inputs: Inputs
) -> tuple[Estimate, list[PlannedSkip], list[Remark]]:
    model = inputs.model.description
    if model is None or not request.steps:
        return Estimate(size_bytes=None, macs=None, minutes=_minutes(request, inputs)), [], []
    dataset = inputs.dataset.description if inputs.dataset else None
    effort = _effort(request)
    samples = dataset.samples if dataset else 0 if effort is None else effort.samples
    graph = Outlook.of(model, inputs.model.size_bytes, samples)
    total = inputs.besides_seconds / 60
    total += 0.0 if effort is None else effort.expected_minutes(model.macs)
    skipped, remarks = list[PlannedSkip](), list[Remark]()
    found = [*forecasts(request.steps, graph)]
    for index, expected in enumerate(found):
        total += expected.minutes
        skipped += [
            PlannedSkip(index=index, node=skip.node, reason=skip.reason)
            for skip in expected.skipped
        ]
        remarks += [Remark(index=index, text=text) for text in expected.remarks]
    last = found[-1]
    estimate = Estimate(size_bytes=last.size_bytes, macs=last.macs, minutes=round(total, 3))
    return estimate, skipped, remarks


def _minutes(request: JobRequest, inputs: Inputs) -> float | None:
    """Return how long a job takes that has no steps to forecast; None where nothing is known."""
    if request.objective is not None:
        return request.objective.budget.minutes
    return round(inputs.besides_seconds / 60, 3) if request.steps == [] else None


def _effort(request: JobRequest) -> generated.Effort | None:
    """Return what is done to make samples from the model; None where none are made."""
    wanted = request.data is not None and request.dataset is None
    return generated.effort_for(request.steps or ()) if wanted else None
