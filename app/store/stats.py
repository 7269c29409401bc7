"""Figures for operators, and sums that are compared with quotas."""

from sqlalchemy import ColumnElement, func, literal, select
from sqlalchemy.orm import Session

from app.store import counters, leases, locks
from app.store.tables import DeliveryRow, JobRow

COUNTED = 100_000
"""So many rows of what waits or runs are counted one by one; more are as many as this."""

_MADE_FIRST = 1000
"""So many queued jobs are read for the oldest."""


def stored_bytes(session: Session, tenant: str) -> int:
    """Return the bytes that count against the tenant's quota.

    They are those of models, of our graphs and price lists of them, datasets, artifacts, finished
    steps, made samples and unfinished uploads.
    """
    return int(counters.total(session, counters.STORED_BYTES, tenant))


def lock_stored_bytes(session: Session, tenant: str) -> int:
    """Return the tenant's stored bytes; a caller that locks them next waits for our commit."""
    locks.take(session, f"stored:{tenant}")
    return stored_bytes(session, tenant)


def jobs_by_status(session: Session) -> dict[str, int]:
    """Count all jobs by their status; those that have not ended up to ``COUNTED``.

    Whatever runs is held by a worker, or is a search; so it is found without those that wait.
    """
    runs = (JobRow.status == "running") & (leases.is_held(JobRow) | JobRow.search.is_not(None))
    active = {
        "queued": _count(session, JobRow.status == "queued"),
        "running": _count(session, runs),
    }
    finished = counters.totals(session, counters.FINISHED_JOBS)
    return {**active, **{status: int(count) for status, count in finished.items()}}


def queue_age(session: Session) -> float:
    """Return the seconds that the oldest queued job has waited; 0 if no job waits.

    The time that a job ran before it was given back is no wait. The oldest is sought among those
    that were made first: only what was retried or given back was queued later than made.
    """
    first = select(JobRow.queued_at).where(JobRow.status == "queued").order_by(JobRow.created_at)
    made_first = first.limit(_MADE_FIRST).subquery()
    oldest = select(func.min(made_first.c.queued_at)).scalar_subquery()
    age = func.extract("epoch", func.clock_timestamp() - oldest)
    return max(float(session.execute(select(func.coalesce(age, 0))).scalar_one()), 0.0)


def step_seconds(session: Session) -> dict[str, tuple[int, float]]:
    """Return, for each method, the number of measured steps and their total seconds."""
    counts = counters.totals(session, counters.STEPS)
    seconds = counters.totals(session, counters.STEP_SECONDS)
    return {name: (int(count), seconds.get(name, 0.0)) for name, count in counts.items()}


def pending_deliveries(session: Session) -> int:
    """Count the pending webhook deliveries, up to ``COUNTED``."""
    return _count(session, DeliveryRow.status == "pending")


def _count(session: Session, condition: ColumnElement[bool]) -> int:
    """Count the rows of a condition up to ``COUNTED``; no column is read, so an index is enough."""
    rows = select(literal(1)).where(condition).limit(COUNTED)
    query = select(func.count()).select_from(rows.subquery())
    return session.execute(query).scalar_one()
