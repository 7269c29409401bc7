"""Figures for operators, and sums that are compared with quotas."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.store import counters, locks
from app.store.tables import DeliveryRow, JobRow


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
    """Count all jobs by their status."""
    active = select(JobRow.status, func.count()).where(JobRow.status.in_(["queued", "running"]))
    counts = dict(session.execute(active.group_by(JobRow.status)).all())
    finished = counters.totals(session, counters.FINISHED_JOBS)
    return {**counts, **{status: int(count) for status, count in finished.items()}}


def queue_age(session: Session) -> float:
    """Return the seconds that the oldest queued job has waited; 0 if no job waits."""
    oldest = select(func.min(JobRow.queued_at)).where(JobRow.status == "queued").scalar_subquery()
    age = func.extract("epoch", func.clock_timestamp() - oldest)
    return max(float(session.execute(select(func.coalesce(age, 0))).scalar_one()), 0.0)


def step_seconds(session: Session) -> dict[str, tuple[int, float]]:
    """Return, for each method, the number of measured steps and their total seconds."""
    counts = counters.totals(session, counters.STEPS)
    seconds = counters.totals(session, counters.STEP_SECONDS)
    return {name: (int(count), seconds.get(name, 0.0)) for name, count in counts.items()}


def pending_deliveries(session: Session) -> int:
    """Count the pending webhook deliveries."""
    query = select(func.count()).where(DeliveryRow.status == "pending")
    return session.execute(query).scalar_one()
