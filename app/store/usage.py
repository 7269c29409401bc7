"""The usage of tenants by day, written with each use, so that it outlives the jobs."""

from collections.abc import Sequence
from datetime import date

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.store import stats
from app.store.tables import UsageRow


def add(
    session: Session,
    tenant: str,
    *,
    cpu_seconds: float = 0.0,
    gpu_seconds: float = 0.0,
    jobs: int = 0,
) -> None:
    """Add to the tenant's day, and note how much it has stored.

    Args:
        session: flushed, so that what was just stored counts.
        tenant: who used it.
        cpu_seconds: of processors.
        gpu_seconds: of GPUs.
        jobs: that ended.
    """
    today = func.timezone("UTC", func.now()).cast(UsageRow.day.type)
    row = insert(UsageRow).values(
        tenant=tenant,
        day=today,
        cpu_seconds=cpu_seconds,
        gpu_seconds=gpu_seconds,
        jobs=jobs,
        stored_bytes=stats.stored_bytes(session, tenant),
    )
    fresh = row.excluded
    changes = {
        "cpu_seconds": UsageRow.cpu_seconds + fresh.cpu_seconds,
        "gpu_seconds": UsageRow.gpu_seconds + fresh.gpu_seconds,
        "jobs": UsageRow.jobs + fresh.jobs,
        "stored_bytes": func.greatest(UsageRow.stored_bytes, fresh.stored_bytes),
    }
    session.execute(
        row.on_conflict_do_update(index_elements=[UsageRow.tenant, UsageRow.day], set_=changes)
    )


def between(session: Session, tenant: str, first: date, last: date) -> Sequence[UsageRow]:
    """Return the tenant's days from ``first`` to ``last`` on which anything was used."""
    days = select(UsageRow).where(UsageRow.tenant == tenant, UsageRow.day.between(first, last))
    return session.scalars(days.order_by(UsageRow.day)).all()


def stored_before(session: Session, tenant: str, day: date) -> int:
    """Return how much the tenant had stored when it last used anything before a day."""
    earlier = select(UsageRow.stored_bytes).where(UsageRow.tenant == tenant, UsageRow.day < day)
    return session.scalar(earlier.order_by(UsageRow.day.desc()).limit(1)) or 0
