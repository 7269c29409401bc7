"""Figures for operators, and sums that are compared with quotas."""

from sqlalchemy import Double, cast, func, select
from sqlalchemy.orm import Session

from app.store.tables import (
    ArtifactRow,
    DatasetRow,
    DeliveryRow,
    JobRow,
    ModelRow,
    StepRow,
    UploadRow,
)


def stored_bytes(session: Session, tenant: str) -> int:
    """Add up the sizes of the tenant's models, datasets, artifacts, and unfinished uploads."""
    sums = [
        select(func.coalesce(func.sum(table.size_bytes), 0))
        .where(table.tenant == tenant)
        .scalar_subquery()
        for table in (ModelRow, DatasetRow, ArtifactRow)
    ]
    arriving = (
        select(func.coalesce(func.sum(UploadRow.length), 0))
        .where(UploadRow.tenant == tenant, UploadRow.sha256.is_(None))
        .scalar_subquery()
    )
    return int(session.execute(select(sums[0] + sums[1] + sums[2] + arriving)).scalar_one())


def jobs_by_status(session: Session) -> dict[str, int]:
    """Count all jobs by their status."""
    counts = session.execute(select(JobRow.status, func.count()).group_by(JobRow.status))
    return dict(counts.all())


def queue_age(session: Session) -> float:
    """Return the seconds that the oldest queued job has waited; 0 if no job waits."""
    oldest = select(func.min(JobRow.queued_at)).where(JobRow.status == "queued").scalar_subquery()
    age = func.extract("epoch", func.clock_timestamp() - oldest)
    return max(float(session.execute(select(func.coalesce(age, 0))).scalar_one()), 0.0)


def step_seconds(session: Session) -> dict[str, tuple[int, float]]:
    """Return, for each method, the number of measured steps and their total seconds."""
    method = StepRow.report["method"].astext
    seconds = func.sum(cast(StepRow.report["seconds"].astext, Double))
    measured = select(method, func.count(), seconds).where(StepRow.report.is_not(None))
    rows = session.execute(measured.group_by(method))
    return {name: (count, total) for name, count, total in rows}


def pending_deliveries(session: Session) -> int:
    """Count the pending webhook deliveries."""
    query = select(func.count()).where(DeliveryRow.status == "pending")
    return session.execute(query).scalar_one()
