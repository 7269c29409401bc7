"""The usage of a tenant, one entry per day."""

from datetime import date, timedelta

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.domain.problems import FieldError, Invalid
from app.store import stats, usage

DEFAULT_DAYS, MOST_DAYS = 30, 366


class UsageDay(BaseModel):
    """What was used on one day, in UTC."""

    day: date
    cpu_seconds: float
    gpu_seconds: float
    jobs: int
    """Jobs that ended."""
    stored_bytes: int
    """The most that was stored."""


def stored(session: Session, tenant: str) -> int:
    """Return how many bytes of the tenant are stored now."""
    return stats.stored_bytes(session, tenant)


def days(session: Session, tenant: str, first: date | None, last: date) -> list[UsageDay]:
    """Return every day from ``first`` to ``last``, those without any use included.

    Args:
        session: of the store.
        tenant: whose use.
        first: 30 days up to ``last`` where it is None.
        last: included.

    Raises:
        Invalid: The days are in the wrong order, or more than 366.
    """
    earlier = min(DEFAULT_DAYS - 1, (last - date.min).days)
    begin = last - timedelta(days=earlier) if first is None else first
    count = (last - begin).days + 1
    if not 0 < count <= MOST_DAYS:
        detail = f"'from' has to be at most {MOST_DAYS - 1} days before 'to', and not after it"
        raise Invalid(f"{detail}.", errors=[FieldError(pointer="#/from", detail=detail)])
    rows = {row.day: row for row in usage.between(session, tenant, begin, last)}
    most = usage.stored_before(session, tenant, begin)
    entries = []
    for offset in range(count):
        day = begin + timedelta(days=offset)
        row = rows.get(day)
        most = row.stored_bytes if row else most
        entries.append(
            UsageDay(
                day=day,
                cpu_seconds=row.cpu_seconds if row else 0.0,
                gpu_seconds=row.gpu_seconds if row else 0.0,
                jobs=row.jobs if row else 0,
                stored_bytes=most,
            )
        )
    return entries
