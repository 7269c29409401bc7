"""The state machine of a job: every change of status happens here, with its event.

    queued ──take───▶ running ──finish──▶ succeeded | failed | cancelled
      ▲  └──────────────┼──────finish──▶ failed | cancelled
      ├──give_back──────┘                   │
      └──────────────retry──────────────────┘   (failed, cancelled)

The caller holds the row's lock (a lease, or ``FOR UPDATE``) and commits; a nudge follows commit.
"""

from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.domain.events import State
from app.domain.jobs import FINISHED, JobStatus
from app.domain.problems import Problem, ProblemDetails
from app.store import deliveries, events, jobs, leases, made_samples, measurements, usage
from app.store.tables import ArtifactRow, JobRow
from app.store.views import job_view


def enter(session: Session, job: JobRow, status: JobStatus, stage: str) -> None:
    """Set the status, and append a ``state`` event, in this transaction."""
    assert job.status not in FINISHED or status == "queued", "a terminal state is entered once"
    job.status = status
    job.stage = stage
    session.flush()
    said = State(status=status, stage=stage)
    events.append(session, job.id, said.kind, said.model_dump(exclude={"kind"}))


def take(session: Session, job: JobRow, owner: str, seconds: float) -> int:
    """Lease a queued job to ``owner``, and return the token; its event follows with ``start``."""
    job.status, job.stage = "running", "starting"
    job.claimed_at = func.clock_timestamp()
    return leases.take(session, job, owner, seconds)


def start(session: Session, job: JobRow) -> None:
    """Note that the holder of a job begins to run it."""
    is_first = job.started_at is None
    job.started_at = func.coalesce(JobRow.started_at, func.clock_timestamp())
    enter(session, job, "running", "starting")
    if is_first and job.parent_id is None:
        tell(session, job, "job.started")


def _stop_clock(job: JobRow) -> None:
    """Add the time of the attempt, by the database's clock, to ``running_seconds``."""
    if job.claimed_at is not None:
        elapsed = func.extract("epoch", func.clock_timestamp() - job.claimed_at)
        job.running_seconds = JobRow.running_seconds + elapsed
    job.claimed_at = None
    job.eta_seconds = None


def give_back(session: Session, job: JobRow, *, spent: bool, delay_seconds: float = 0) -> None:
    """Queue a running job again; ``spent`` says whether the attempt counts."""
    _stop_clock(job)
    leases.give_back(job, spent=spent, delay_seconds=delay_seconds)
    if job.started_at is not None:
        job.queued_at = func.clock_timestamp()
    enter(session, job, "queued", "queued")


def retry(session: Session, job: JobRow) -> None:
    """Queue a failed or cancelled job again, with fresh limits; finished steps are kept."""
    job.problem = None
    job.finished_at = None
    job.started_at = None
    job.spent_attempts = job.attempts
    job.losses = 0
    job.running_seconds = 0.0
    job.queued_at = job.not_before = func.clock_timestamp()
    enter(session, job, "queued", "queued")


def finish(
    session: Session,
    job: JobRow,
    status: Literal["succeeded", "failed", "cancelled"],
    problem: Problem | ProblemDetails | None = None,
) -> None:
    """Enter a terminal state, once, and write its webhook deliveries.

    A trial has no deliveries, and is not counted in the tenant's usage: its search is.
    """
    _stop_clock(job)
    leases.release(job)
    details = problem.details() if isinstance(problem, Problem) else problem
    job.problem = details.model_dump(mode="json") if details else None
    job.finished_at = func.clock_timestamp()
    job.progress = 1.0 if status == "succeeded" else job.progress
    job.cancel_requested = False
    enter(session, job, status, status)
    measurements.file(session, job)
    if status == "succeeded":
        made_samples.forget(session, [job.id])
    if job.parent_id is None:
        tell(session, job, f"job.{status}")
        usage.add(session, job.tenant, jobs=1)


def finish_unstarted(
    session: Session,
    job: JobRow,
    status: Literal["failed", "cancelled"],
    problem: Problem | ProblemDetails | None = None,
) -> None:
    """End a job that was taken and cannot start; that counts as no attempt."""
    job.attempts -= 1
    finish(session, job, status, problem)


def tell(session: Session, job: JobRow, event: str) -> None:
    """Write the webhook deliveries that tell of an event of the job, as it stands now."""
    session.flush()
    session.refresh(job)
    artifacts = session.scalars(select(ArtifactRow).where(ArtifactRow.job_id == job.id)).all()
    model = jobs.model_names(session, [job.model_id]).get(job.model_id)
    data = job_view(job, artifacts, model=model).model_dump(mode="json")
    deliveries.enqueue(session, job.tenant, event, job.id, data)
