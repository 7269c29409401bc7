"""Searches and their trials: what a turn of a search reads and writes, in the caller's transaction.

A turn locks the search first and its trials after it, all at once; whoever works on a trial locks
the trial alone, or the search first as well. So neither waits for the other in a circle.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.domain import ids
from app.domain.jobs import JobRequest
from app.domain.searches import EndedBy, Outcome, SearchState
from app.store import blob_rows, jobs, leases, measurements, named, transitions
from app.store.tables import ArtifactRow, JobRow, ModelRow, StepRow, TrialRow

_ORIGINAL_FILE = "model.onnx"

_ACTIVE = JobRow.status.in_(["queued", "running"])


def due(session: Session, most: int) -> Sequence[str]:
    """Return searches that go on and do not rest; all their uploads were inspected.

    Tenants take turns: the first search of each comes before the second of any. Those that have
    rested longest come first. There are no more than ``most``.
    """
    goes_on = JobRow.search.is_not(None) & _ACTIVE & leases.is_due(JobRow)
    place = func.row_number().over(
        partition_by=JobRow.tenant, order_by=(JobRow.not_before, JobRow.id)
    )
    query = select(JobRow.id).where(goes_on, named.uploads_inspected())
    return session.scalars(query.order_by(place, JobRow.not_before).limit(most)).all()


def rest(session: Session, search: JobRow, seconds: float) -> None:
    """Let a search have no turn for a while, unless one of its trials ends."""
    search.not_before = leases.seconds_from_now(seconds)
    session.flush()


def of_trial(session: Session, job_id: str) -> str | None:
    """Return the search of a job that is a trial; None for any other job."""
    return session.scalar(select(JobRow.parent_id).where(JobRow.id == job_id))


def hold(session: Session, search_id: str, *, due: bool = False) -> JobRow | None:
    """Lock a search that has not ended, for a turn; None where somebody else takes one.

    Args:
        session: Of the turn.
        search_id: The search.
        due: Whether a search that rests is refused too: somebody else has just taken its turn.
    """
    query = select(JobRow).where(JobRow.id == search_id, JobRow.search.is_not(None), _ACTIVE)
    if due:
        query = query.where(leases.is_due(JobRow))
    return session.scalars(query.with_for_update(skip_locked=True, of=JobRow)).one_or_none()


def trials(session: Session, search_id: str) -> list[tuple[TrialRow, JobRow]]:
    """Return the trials of a search with their jobs, in the order in which they were asked for."""
    query = (
        select(TrialRow, JobRow)
        .join(JobRow, JobRow.id == TrialRow.job_id)
        .where(TrialRow.search_id == search_id)
        .order_by(TrialRow.number)
    )
    return [(trial, job) for trial, job in session.execute(query)]


def trial_of(session: Session, search_id: str, job_id: str) -> tuple[TrialRow, JobRow] | None:
    """Return a trial of a search by its job's id."""
    query = (
        select(TrialRow, JobRow)
        .join(JobRow, JobRow.id == TrialRow.job_id)
        .where(TrialRow.search_id == search_id, TrialRow.job_id == job_id)
    )
    found = session.execute(query).one_or_none()
    return None if found is None else (found[0], found[1])


def file(
    session: Session, search: JobRow, number: int, request: JobRequest, note: Mapping[str, Any]
) -> tuple[TrialRow, JobRow]:
    """Queue a trial as a job of the search's tenant."""
    job = jobs.row(search.tenant, request)
    job.traceparent = search.traceparent
    job.parent_id = search.id
    job.created_at = func.clock_timestamp()  # trials of one turn are listed in their order
    session.add(job)
    transitions.enter(session, job, "queued", "queued")
    trial = TrialRow(search_id=search.id, number=number, job_id=job.id, note=dict(note))
    session.add(trial)
    session.flush()
    return trial, job


def tell(trial: TrialRow, outcome: Outcome) -> None:
    """Store what a trial came to."""
    trial.outcome = outcome.model_dump(mode="json")


def end_trials(session: Session, search_id: str) -> bool:
    """Cancel trials that wait, ask the workers of the others to stop; return whether any runs."""
    active = session.scalars(
        select(JobRow)
        .where(JobRow.parent_id == search_id, _ACTIVE)
        .order_by(JobRow.id)
        .with_for_update(of=JobRow)
    ).all()
    for job in active:
        if job.status == "queued":
            transitions.finish(session, job, "cancelled")
        else:
            job.cancel_requested = True
    session.flush()
    return any(job.status == "running" for job in active)


def forget_trials(session: Session, search_id: str) -> None:
    """Delete the trials of a search that is deleted; whoever still works on one loses it."""
    session.execute(delete(JobRow).where(JobRow.parent_id == search_id))


def say_ended(search: JobRow, by: EndedBy | None) -> None:
    """Store what ended a search; None: it goes on."""
    state = SearchState.model_validate(search.search)
    search.search = state.model_copy(update={"ended_by": by}).model_dump(mode="json")


def forget_unmeasured(session: Session, search_id: str) -> None:
    """Delete the trials without figures: a search that goes on may ask for them again."""
    unmeasured = (JobRow.parent_id == search_id) & JobRow.compressed.is_(None)
    session.execute(delete(JobRow).where(unmeasured))


def forget_files(session: Session, trials: Sequence[str]) -> None:
    """Delete the artifacts of trials that something better was found than; their figures stay."""
    session.execute(delete(ArtifactRow).where(ArtifactRow.job_id.in_(trials)))


def adopt(session: Session, job: JobRow, source: JobRow) -> None:
    """Give a job the report, steps and artifacts of another: the same bytes, rows of its own."""
    job.baseline, job.compressed = source.baseline, source.compressed
    job.evaluation, job.manifest, job.verdict = source.evaluation, source.manifest, source.verdict
    for step in session.scalars(select(StepRow).where(StepRow.job_id == source.id)):
        session.merge(StepRow(job_id=job.id, **_columns(step, {"job_id"})))
    files = session.scalars(
        select(ArtifactRow)
        .where(ArtifactRow.job_id == source.id)
        .order_by(ArtifactRow.created_at, ArtifactRow.id)
    ).all()
    names = sorted(ids.new("art") for _ in files)  # rows of one moment are listed by their id
    for name, original in zip(names, files, strict=True):
        blob_rows.touch(session, original.sha256, original.size_bytes)
        kept = _columns(original, {"id", "job_id", "created_at"})
        session.add(ArtifactRow(id=name, job_id=job.id, **kept))
    session.flush()
    copies = {original.id: name for name, original in zip(names, files, strict=True)}
    measurements.adopt(session, job, source, copies)


def _columns(row: StepRow | ArtifactRow, but: set[str]) -> dict[str, Any]:
    """Return the values of a row by column, without some."""
    columns = {column.key for column in row.__table__.columns} - but
    return {name: getattr(row, name) for name in columns}


def adopt_original(session: Session, job: JobRow, model: ModelRow, measured: JobRow) -> None:
    """Give a job the model's own graph as its artifact, and the figures that a trial has of it."""
    assert model.onnx_sha256 is not None, "a ready model has its graphs"
    size_bytes = blob_rows.size_of(session, model.onnx_sha256)
    blob_rows.touch(session, model.onnx_sha256, size_bytes)
    job.baseline = job.compressed = measured.baseline
    job.evaluation = {**(measured.evaluation or {}), "latency": None, "drop": None}
    manifest = measured.manifest or {}
    files = {_ORIGINAL_FILE: model.onnx_sha256}
    job.manifest = {**manifest, "steps": [], "artifacts": files}
    session.add(
        ArtifactRow(
            id=ids.new("art"),
            tenant=job.tenant,
            job_id=job.id,
            format="onnx",
            filename=_ORIGINAL_FILE,
            sha256=model.onnx_sha256,
            size_bytes=size_bytes,
        )
    )
