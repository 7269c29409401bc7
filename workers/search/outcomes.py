"""What a trial came to, from what its job measured."""

from collections.abc import Sequence

from app.domain.jobs import JobRequest
from app.domain.latencies import Comparison
from app.domain.reports import Evaluation, Measures, is_beyond, quality_drop
from app.domain.searches import Goal, Outcome
from app.domain.steps import AnyStep
from app.store.tables import ArtifactRow, JobRow, Json, MeasurementRow

_SAME = 0.995
"""Of the original's size or MACs: what is not smaller than this is the same."""


def of_job(
    job: JobRow,
    artifacts: Sequence[ArtifactRow],
    seconds: float,
    goal: Goal,
    bound: float,
    timed: MeasurementRow | None = None,
) -> Outcome:
    """Return what a trial came to.

    Args:
        job: of the trial, which has ended.
        artifacts: its files, in the order of ``deliver``. The first one counts, on its own runtime.
        seconds: that its steps took.
        goal: what is minimised.
        bound: of the loss of quality.
        timed: what a device measured of the first file, where its times are what counts.
    """
    if job.baseline is None or job.compressed is None or not artifacts:
        return Outcome(seconds=seconds, problem=(job.problem or {}).get("type") or job.status)
    before, after = (Measures.model_validate(each) for each in (job.baseline, job.compressed))
    first = artifacts[0]
    on_device = Comparison.model_validate(timed.latency) if timed and timed.latency else None
    if on_device is None:
        cost, sure = _cost(job, before, after, first, goal)
    else:
        cost, sure = _cost_of(on_device)
    if cost is None:
        return Outcome(seconds=seconds, problem="not-measured")
    drop = quality_drop(before.quality, after.quality, after.fidelity)
    holds = not is_beyond(drop, bound)
    outcome = Outcome(seconds=seconds, cost=cost, drop=drop, holds=holds, pays=holds and sure)
    if timed is None or on_device is None:
        return outcome
    times = {"latency_ms": on_device.compressed.median, "original_ms": on_device.original.median}
    return outcome.model_copy(update={**times, "device": timed.device})


def _cost(
    job: JobRow, before: Measures, after: Measures, artifact: ArtifactRow, goal: Goal
) -> tuple[float | None, bool]:
    """Return the cost as a share of the original's, and whether it is less beyond doubt."""
    ours = artifact.format == "onnx"
    if goal == "size":
        size = after.size_bytes if ours else artifact.size_bytes
        share = size / max(before.size_bytes, 1)
        return share, share < _SAME
    if goal == "macs":
        share = after.macs / max(before.macs, 1)
        return share, share < _SAME
    if not ours:
        if artifact.latency_ms is None or not before.latency_ms:
            return None, False
        return (share := artifact.latency_ms / before.latency_ms), share < 1
    latency = Evaluation.model_validate(job.evaluation).latency if job.evaluation else None
    if latency is None or latency.speedup <= 0:
        return None, False
    return _cost_of(latency)


def _cost_of(latency: Comparison) -> tuple[float, bool]:
    """Return a file's time as a share of the original's, and whether it is less beyond doubt."""
    least = latency.speedup if latency.speedup_low is None else latency.speedup_low
    return 1 / latency.speedup, least > 1


def stored(outcome: Json | None) -> Outcome | None:
    """Return an outcome as it was stored."""
    return None if outcome is None else Outcome.model_validate(outcome)


def trial_request(request: JobRequest, steps: Sequence[AnyStep], minutes: float) -> JobRequest:
    """Return what a trial asks for: as its search, with steps in place of the objective."""
    body = request.model_dump(mode="json", exclude={"objective", "webhook", "name", "tags"})
    body["steps"] = [step.model_dump(mode="json") for step in steps]
    body["require"] = {"max_quality_drop": request.bound}
    body["limits"] = {**body["limits"], "running_minutes": round(minutes, 3)}
    return JobRequest.model_validate(body)
