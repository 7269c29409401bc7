"""What a worker writes of a job that it runs, up to the result; every write checks the token."""

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.blobs import Blob
from app.domain import ids
from app.domain.directory import FinishedStep, Produced
from app.domain.events import Log, MetricValue, Progress
from app.domain.jobs import JobRequest, Usage
from app.domain.makeup import likeness
from app.domain.models import ModelDescription
from app.domain.problems import Problem, ProblemDetails
from app.domain.reports import Generated, Report
from app.domain.sensitivity import Sensitivity
from app.store import (
    blob_rows,
    counters,
    earlier_steps,
    events,
    layer_times,
    leases,
    made_samples,
    measurements,
    price_lists,
    sensitivities,
    transitions,
)
from app.store import usage as usage_days
from app.store.claims import Claim, Taken
from app.store.price_lists import PriceList
from app.store.tables import ArtifactRow, JobRow, ModelRow, StepRow


def renew(session: Session, claimed: Claim, seconds: float) -> bool:
    """Renew the lease; return whether the caller asked to cancel the job.

    Raises:
        LeaseLost: another worker holds the job by now.
    """
    leases.renew(session, JobRow, claimed.id, claimed.token, seconds)
    return session.scalars(select(JobRow.cancel_requested).where(JobRow.id == claimed.id)).one()


def restarted(session: Session, claimed: Claim) -> None:
    """Count another attempt: the engine died and is started again in the same directory."""
    leases.hold(session, JobRow, claimed.id, claimed.token).attempts += 1


def store_events(
    session: Session, claimed: Claim, engine_events: Sequence[Progress | MetricValue | Log]
) -> None:
    """Store events of the engine, and the job's progress and stage; progress never falls."""
    job = leases.hold(session, JobRow, claimed.id, claimed.token)
    for event in engine_events:
        data = event.model_dump(
            mode="json", exclude={"kind"}, exclude_none=event.kind != "progress"
        )
        if isinstance(event, Progress):
            job.progress = data["progress"] = max(job.progress, min(event.progress, 0.999))
            job.stage, job.eta_seconds = event.stage, event.eta_seconds
            session.flush()
        events.append(session, claimed.id, event.kind, data)


def keep_step(
    session: Session, claimed: Claim, index: int, graph: Blob, finished: FinishedStep
) -> None:
    """Store a finished step, which will not be repeated: by other jobs only if it is settled."""
    job = leases.hold(session, JobRow, claimed.id, claimed.token)
    job.losses = 0
    blob_rows.touch(session, graph.sha256, graph.size_bytes)
    session.merge(
        StepRow(
            job_id=claimed.id,
            index=index,
            tenant=job.tenant,
            graph_sha256=graph.sha256,
            size_bytes=graph.size_bytes,
            key=_key(session, claimed, index) if finished.settled else None,
            finished=finished.model_dump(mode="json"),
        )
    )


def _key(session: Session, claimed: Claim, index: int) -> str | None:
    """Return the key of a step; None if none is kept, or if its input is not stored."""
    if not claimed.step_keys:
        return None
    given: str | None = claimed.graph_sha256
    if index > 0:
        before = session.get(StepRow, (claimed.id, index - 1))
        given = None if before is None else before.graph_sha256
    return None if given is None else earlier_steps.whole_key(claimed.step_keys[index], given)


def keep_samples(session: Session, claimed: Claim, arrays: Blob, generated: Generated) -> None:
    """Store samples that the run has made from the model: none are made again for the job."""
    made_samples.hold_search(session, claimed.id)
    job = leases.hold(session, JobRow, claimed.id, claimed.token)
    made_samples.keep(session, job, arrays, generated)


def keep_price_list(
    session: Session, claimed: Claim, key: str, blob: Blob, quota_bytes: int
) -> None:
    """Store what a step has measured of its graph, for later jobs.

    A list to which the job has added nothing is not stored again: another job may have added to it
    meanwhile.
    """
    if PriceList(key, blob.sha256) in claimed.price_lists.values():
        return
    job = leases.hold(session, JobRow, claimed.id, claimed.token)
    price_lists.keep(session, job, key, blob, quota_bytes)


def keep_layer_times(
    session: Session, claimed: Claim, conditions: str, times: Mapping[str, float]
) -> None:
    """Store the times of single layers that a job has measured."""
    job = leases.hold(session, JobRow, claimed.id, claimed.token)
    layer_times.keep(session, job.tenant, conditions, times)


def publish(
    session: Session,
    claimed: Claim,
    report: Report | None,
    artifacts: Sequence[tuple[Produced, str, Blob]],
    problem: Problem | ProblemDetails | None,
    usage: Usage,
    sensitivity: Sensitivity | None = None,
) -> None:
    """Enter the terminal state, and store everything that the run produced, in this transaction.

    The artifacts of an earlier run, before a retry, are replaced.
    """
    job = leases.hold(session, JobRow, claimed.id, claimed.token)
    add_usage(session, job, usage)
    if report is not None:
        _keep_report(session, job, report, claimed.request)
    if sensitivity is not None:
        sensitivities.keep(session, job, sensitivity)
    measurements.forget(session, job.id)
    session.execute(delete(ArtifactRow).where(ArtifactRow.job_id == job.id))
    names = sorted(ids.new("art") for _ in artifacts)  # rows of the same time are listed by id
    for name, (produced, filename, blob) in zip(names, artifacts, strict=True):
        blob_rows.touch(session, blob.sha256, blob.size_bytes)
        session.add(
            ArtifactRow(
                id=name,
                tenant=job.tenant,
                job_id=job.id,
                filename=filename,
                sha256=blob.sha256,
                size_bytes=blob.size_bytes,
                **produced.model_dump(mode="json", exclude={"path"}),
            )
        )
    session.flush()
    transitions.finish(session, job, "failed" if problem else "succeeded", problem)


def cancelled(session: Session, claimed: Claim, usage: Usage) -> None:
    """Enter ``cancelled``: the caller asked for it, and the engine is dead."""
    job = leases.hold(session, JobRow, claimed.id, claimed.token)
    add_usage(session, job, usage)
    transitions.finish(session, job, "cancelled")


def give_back(session: Session, claimed: Claim, usage: Usage, *, delay_seconds: float = 0) -> None:
    """Queue the job again without counting the attempt, as the job is not at fault."""
    job = leases.hold(session, JobRow, claimed.id, claimed.token)
    add_usage(session, job, usage)
    transitions.give_back(session, job, spent=False, delay_seconds=delay_seconds)


def requeue_after_fault(
    session: Session, claimed: Taken, usage: Usage, problem: Problem, *, last: bool, delay: float
) -> None:
    """Queue the job again after an internal error, in ``delay`` seconds; if ``last``, fail it."""
    job = leases.hold(session, JobRow, claimed.id, claimed.token)
    add_usage(session, job, usage)
    if last:
        transitions.finish(session, job, "failed", problem)
    else:
        transitions.give_back(session, job, spent=True, delay_seconds=delay)


def add_usage(session: Session, job: JobRow, usage: Usage) -> None:
    """Add the resource usage of an attempt to that of the job, and of its tenant's day."""
    job.cpu_seconds += usage.cpu_seconds
    job.gpu_seconds += usage.gpu_seconds
    job.peak_memory_bytes = max(job.peak_memory_bytes, usage.peak_memory_bytes)
    usage_days.add(
        session, job.tenant, cpu_seconds=usage.cpu_seconds, gpu_seconds=usage.gpu_seconds
    )


def _keep_report(session: Session, job: JobRow, report: Report, request: JobRequest) -> None:
    """Store a report, and count the steps of the request that it reports on.

    The engine may have written anything, and all tenants share the counters. So each step counts
    once, under the method of the request, with no more seconds than the job may run.
    """
    job.baseline = report.baseline.model_dump(mode="json")
    job.compressed = report.compressed.model_dump(mode="json")
    job.evaluation = report.evaluation.model_dump(mode="json")
    job.verdict = report.verdict
    job.manifest = report.manifest.model_dump(mode="json")
    model = session.get(ModelRow, job.model_id)
    if model is not None and model.description is not None:
        job.likeness = likeness(ModelDescription.model_validate(model.description))
    reports = {each.index: each for each in report.step_reports}
    most_seconds = 60 * request.limits.running_minutes
    for index, asked in enumerate(request.steps or ()):
        step_report, step = reports.get(index), session.get(StepRow, (job.id, index))
        if step_report is not None and step is not None:
            step.report = step_report.model_dump(mode="json")
            seconds = min(max(step_report.seconds, 0.0), most_seconds)
            counters.add(session, counters.STEPS, {asked.method: 1})
            counters.add(session, counters.STEP_SECONDS, {asked.method: seconds})
