"""Tenants: lists them, and deletes one with everything that it has."""

from datetime import date
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, func, literal_column, select, union
from sqlalchemy.orm import Session

from app.store import counters
from app.store.tables import (
    ApiKeyRow,
    JobRow,
    Table,
    UploadPartRow,
    UploadRow,
    UsageRow,
)

_OWNED = [
    ApiKeyRow.__table__,  # first, so that nobody calls
    *(
        table
        for table in reversed(Table.metadata.sorted_tables)
        if "tenant" in table.columns and table is not ApiKeyRow.__table__
    ),
]
"""Every table with a tenant; rows that refer to others come before those."""

_PORTION = 200


class Tenant(NamedTuple):
    """A tenant, and what it has."""

    name: str
    keys: int
    active_jobs: int
    stored_bytes: int
    last_day: date | None
    """The last day on which it used anything."""


def listed(session: Session) -> list[Tenant]:
    """Return every tenant that has a row in any table, by name."""
    names = union(*(select(table.c.tenant) for table in _OWNED)).subquery()
    keys = select(ApiKeyRow.tenant, func.count()).group_by(ApiKeyRow.tenant)
    active = select(JobRow.tenant, func.count()).where(JobRow.status.in_(["queued", "running"]))
    days = select(UsageRow.tenant, func.max(UsageRow.day)).group_by(UsageRow.tenant)
    key_counts = dict(session.execute(keys).all())
    job_counts = dict(session.execute(active.group_by(JobRow.tenant)).all())
    last_days = dict(session.execute(days).all())
    stored = counters.totals(session, counters.STORED_BYTES)
    query = select(names.c.tenant).where(names.c.tenant.is_not(None)).order_by(names.c.tenant)
    return [
        Tenant(
            name,
            key_counts.get(name, 0),
            job_counts.get(name, 0),
            int(stored.get(name, 0)),
            last_days.get(name),
        )
        for name in session.scalars(query)
    ]


def delete_portion(session: Session, tenant: str) -> int:
    """Delete some of the tenant's rows; return how many, 0 if none is left.

    A worker that runs one of its jobs finds its lease lost, and publishes nothing.
    """
    for table in _OWNED:
        row: ColumnElement[str] = literal_column("ctid")
        chosen = select(row).select_from(table).where(table.c.tenant == tenant).limit(_PORTION)
        deletion = delete(table).where(row == func.any(func.array(chosen.scalar_subquery())))
        count = len(session.execute(deletion.returning(table.c.tenant)).all())
        if count:
            return count
    counters.compact(session)
    return 0


def upload_ids(session: Session, tenant: str) -> list[str]:
    """Return the tenant's uploads, to which clients may have sent parts that have no row yet."""
    return list(session.scalars(select(UploadRow.id).where(UploadRow.tenant == tenant)))


def part_keys(session: Session, tenant: str) -> list[str]:
    """Return the keys of the objects in which the tenant's unfinished uploads are stored."""
    parts = select(UploadPartRow.key).join(UploadRow, UploadRow.id == UploadPartRow.upload_id)
    return list(session.scalars(parts.where(UploadRow.tenant == tenant)))
