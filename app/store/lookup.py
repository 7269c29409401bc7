"""Finds one row by its id, for its tenant only."""

from functools import lru_cache
from typing import Any, Literal, TypeVar

from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session

from app.domain.problems import NotFound
from app.store.tables import (
    ArtifactRow,
    DatasetRow,
    DeviceRow,
    JobRow,
    MeasurementRow,
    ModelRow,
    WebhookRow,
)

Row = TypeVar(
    "Row", ModelRow, DatasetRow, JobRow, ArtifactRow, WebhookRow, DeviceRow, MeasurementRow
)

Lock = Literal["change", "keep"]
"""``change`` locks the row against changes until commit, ``keep`` against deletion."""


def find(
    session: Session, table: type[Row], tenant: str, row_id: str, lock: Lock | None = None
) -> Row | None:
    """Return the tenant's row, or None; with a ``lock``, it is held until commit."""
    row: Row | None = session.scalars(
        _statement(table, lock), {"id": row_id, "tenant": tenant}
    ).one_or_none()
    return row


def require(
    session: Session, table: type[Row], tenant: str, row_id: str, lock: Lock | None = None
) -> Row:
    """Return the tenant's row as ``find`` does, or raise NotFound."""
    row = find(session, table, tenant, row_id, lock)
    if row is None:
        raise NotFound(f"There is no {table.__tablename__.removesuffix('s')} {row_id!r}.")
    return row


@lru_cache
def _statement(table: type[Row], lock: Lock | None) -> Select[Any]:
    """Return the statement. Building one costs more than running it, so each is built once."""
    query = select(table).where(table.id == bindparam("id"), table.tenant == bindparam("tenant"))
    if lock is not None:
        query = query.with_for_update(key_share=lock == "keep", read=lock == "keep")
    return query
