"""What a worker does with the row of a job, from claim to result; every write checks the token."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Text, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.blobs import Blob
from app.domain import homecoming, ids
from app.domain.directory import FinishedStep, Produced
from app.domain.events import Log, MetricValue, Progress
from app.domain.jobs import (
    EVALUATE_DATASET_POINTER,
    METRIC_GRAPH_POINTER,
    DeviceKind,
    JobRequest,
    Usage,
)
from app.domain.makeup import likeness
from app.domain.models import ModelDescription
from app.domain.problems import Problem, ProblemDetails
from app.domain.reports import Report
from app.domain.sensitivity import Sensitivity
from app.store import (
    blob_rows,
    counters,
    earlier_steps,
    events,
    leases,
    named,
    obstacles,
    sensitivities,
    transitions,
)
from app.store import usage as usage_days
from app.store.tables import ArtifactRow, DatasetRow, JobRow, ModelRow, StepRow


@dataclass(frozen=True)
class WorkerOffer:
    """The device and labels that a worker offers to jobs."""

    device: DeviceKind
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClaimedDataset:
    """A dataset that a run reads."""

    sha256: str
    images: dict[str, object]
    """The options for its images."""


@dataclass(frozen=True)
class ClaimedSource:
    """An upload of another framework that a run opens again."""

    sha256: str
    hints: dict[str, object]
    """What its user said of it."""


@dataclass(frozen=True)
class Claim:
    """A claimed job, with everything that a run needs."""

    id: str
    token: int
    attempt: int
    """The number of the attempt, from 1, since the last retry."""
    request: JobRequest
    model_sha256: str
    model_size_bytes: int
    """The size of the upload, or of its ONNX graph if the upload has another format."""
    onnx_sha256: str
    graph_sha256: str
    other_models: dict[str, str]
    """Other models that steps name: the SHA-256 of the graph in normal form, by id."""
    source: ClaimedSource | None
    """The upload whose layers the result has, if the format ``source`` is delivered."""
    metric_sha256: str | None
    """The SHA-256 of the uploaded graph that computes the metric, if there is one."""
    dataset: ClaimedDataset | None
    evaluate_dataset: ClaimedDataset | None
    """The dataset for the evaluation, if the request names one."""
    steps: tuple[tuple[str, FinishedStep], ...]
    """The finished steps in order: the SHA-256 of the graph, and the report."""
    step_keys: tuple[str, ...]
    """The key of each step, by which its result is found again; empty where none is to be."""
    seconds_left: float


def _size_bytes(session: Session, model: ModelRow) -> int:
    """Return the size of a model as ONNX; other formats may also hold an optimizer's state."""
    uploaded_as_onnx = not model.description or model.description["format"] == "onnx"
    if uploaded_as_onnx or model.onnx_sha256 is None:
        return model.size_bytes
    return blob_rows.size_of(session, model.onnx_sha256)


def waiting() -> ColumnElement[bool]:
    """Return the condition of jobs that may start: queued, due, with no inspection pending.

    A search is not started: its trials are.
    """
    due = (JobRow.status == "queued") & (JobRow.not_before <= func.now())
    return due & JobRow.search.is_(None) & named.uploads_inspected()


def fits(offer: WorkerOffer) -> ColumnElement[bool]:
    """Return the condition of jobs whose requirements a worker meets."""
    device = JobRow.requires_device.is_(None) | (JobRow.requires_device == offer.device)
    fits: ColumnElement[bool] = device & JobRow.requires_labels.contained_by(
        cast(offer.labels, ARRAY(Text))
    )
    return fits


def claim(
    session: Session, job_id: str, owner: str, seconds: float, maker: str | None = None
) -> Claim | None:
    """Claim a waiting job for ``seconds``; return None if there is nothing to run.

    Its first steps are taken from jobs that made them before, where ``maker`` says what of the
    worker their results follow from.

    A job whose uploads cannot be used together fails here, with the reason. A job with a pending
    cancellation is cancelled here.

    Raises:
        ValidationError: a newer version wrote the job, and this version cannot read it.
    """
    job = session.scalars(
        select(JobRow)
        .where(JobRow.id == job_id, waiting())
        .with_for_update(skip_locked=True, of=JobRow)
    ).one_or_none()
    if job is None:
        return None
    if job.cancel_requested:
        transitions.finish(session, job, "cancelled")
        return None
    model = session.get(ModelRow, job.model_id)
    request = JobRequest.model_validate(job.request)
    datasets = {
        pointer: session.get(DatasetRow, dataset_id)
        for pointer, dataset_id in request.datasets.items()
    }
    other_models = {
        pointer: session.get(ModelRow, model_id)
        for pointer, model_id in request.other_models.items()
    }
    metric = other_models.pop(METRIC_GRAPH_POINTER, None)
    problem = obstacles.of(request, model, datasets, other_models, metric)
    if problem is not None:
        transitions.finish(session, job, "failed", problem)
        return None
    assert model is not None, "an unusable model was refused"
    assert model.onnx_sha256 is not None, "a ready model has its graphs"
    assert model.graph_sha256 is not None, "a ready model has its graphs"
    token = leases.take(session, job, owner, seconds)
    job.claimed_at = func.clock_timestamp()
    first = job.started_at is None
    job.started_at = func.coalesce(JobRow.started_at, func.clock_timestamp())
    transitions.enter(session, job, "running", "starting")
    if first and job.parent_id is None:
        transitions.tell(session, job, "job.started")
    dataset = _claimed(datasets.get("#/dataset"))
    evaluate_dataset = _claimed(datasets.get(EVALUATE_DATASET_POINTER))
    contents = _contents(model, [*other_models.values(), metric], [dataset, evaluate_dataset])
    keys = () if maker is None else earlier_steps.keys(request, contents, maker)
    finished = _finished(session, job.id)
    if keys:
        earlier_steps.take(session, job, keys, {step.index for step in finished})
        finished = _finished(session, job.id)
    return Claim(
        id=job.id,
        token=token,
        attempt=job.attempts - job.spent_attempts,
        request=request,
        model_sha256=model.sha256,
        model_size_bytes=_size_bytes(session, model),
        onnx_sha256=model.onnx_sha256,
        graph_sha256=model.graph_sha256,
        other_models={
            row.id: str(row.graph_sha256) for row in other_models.values() if row is not None
        },
        source=_source(request, [model, *other_models.values()]),
        metric_sha256=metric.onnx_sha256 if metric else None,
        dataset=dataset,
        evaluate_dataset=evaluate_dataset,
        steps=tuple(
            (step.graph_sha256, FinishedStep.model_validate(step.finished))
            for index, step in enumerate(finished)
            if step.index == index and step.graph_sha256 is not None
        ),
        step_keys=keys,
        seconds_left=request.limits.running_minutes * 60 - job.running_seconds,
    )


def _finished(session: Session, job_id: str) -> Sequence[StepRow]:
    """Return the finished steps of a job, in order."""
    query = select(StepRow).where(StepRow.job_id == job_id).order_by(StepRow.index)
    return session.scalars(query).all()


def _contents(
    model: ModelRow,
    models: Sequence[ModelRow | None],
    datasets: Sequence[ClaimedDataset | None],
) -> list[str]:
    """Return what a job reads, as hashes, and how it is read."""
    others = [f"{row.id} {row.onnx_sha256} {row.graph_sha256}" if row else "" for row in models]
    data = [
        f"{each.sha256} {json.dumps(each.images, sort_keys=True)}" if each else ""
        for each in datasets
    ]
    return [f"{model.onnx_sha256} {model.graph_sha256}", *others, *data]


def put_off(session: Session, job_id: str, seconds: float) -> None:
    """Make a waiting job wait for some more seconds, so that others get their turn."""
    later = {"not_before": leases.seconds_from_now(seconds)}
    session.execute(update(JobRow).where(JobRow.id == job_id, waiting()).values(later))


def _source(request: JobRequest, models: Sequence[ModelRow | None]) -> ClaimedSource | None:
    """Return the upload of the model whose layers the result has, if that is asked for."""
    if "source" not in request.deliver:
        return None
    home = homecoming.home_of(request.steps or ())[0] or request.model
    row = next(row for row in models if row is not None and row.id == home)
    return ClaimedSource(row.sha256, row.hints)


def _claimed(row: DatasetRow | None) -> ClaimedDataset | None:
    return None if row is None else ClaimedDataset(row.sha256, row.images)


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
    """Store a finished step, which will not be repeated."""
    job = leases.hold(session, JobRow, claimed.id, claimed.token)
    blob_rows.touch(session, graph.sha256, graph.size_bytes)
    session.merge(
        StepRow(
            job_id=claimed.id,
            index=index,
            tenant=job.tenant,
            graph_sha256=graph.sha256,
            size_bytes=graph.size_bytes,
            key=claimed.step_keys[index] if claimed.step_keys else None,
            finished=finished.model_dump(mode="json"),
        )
    )


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
        _keep_report(session, job, report)
    if sensitivity is not None:
        sensitivities.keep(session, job, sensitivity)
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
    session: Session, claimed: Claim, usage: Usage, problem: Problem, *, last: bool, delay: float
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


def _keep_report(session: Session, job: JobRow, report: Report) -> None:
    job.baseline = report.baseline.model_dump(mode="json")
    job.compressed = report.compressed.model_dump(mode="json")
    job.evaluation = report.evaluation.model_dump(mode="json")
    job.verdict = report.verdict
    job.manifest = report.manifest.model_dump(mode="json")
    model = session.get(ModelRow, job.model_id)
    if model is not None and model.description is not None:
        job.likeness = likeness(ModelDescription.model_validate(model.description))
    for step_report in report.step_reports:
        step = session.get(StepRow, (job.id, step_report.index))
        if step is not None:
            step.report = step_report.model_dump(mode="json")
            counters.add(session, counters.STEPS, {step_report.method: 1})
            counters.add(session, counters.STEP_SECONDS, {step_report.method: step_report.seconds})
