"""Pages of rows, newest first, by keyset pagination, which never skips or repeats a row."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

from app.store.tables import (
    ArtifactRow,
    DatasetRow,
    DeliveryRow,
    DeviceRow,
    JobRow,
    MeasurementRow,
    ModelRow,
    WebhookRow,
)

Row = TypeVar(
    "Row",
    ModelRow,
    DatasetRow,
    JobRow,
    ArtifactRow,
    WebhookRow,
    DeliveryRow,
    DeviceRow,
    MeasurementRow,
)


@dataclass(frozen=True)
class Position:
    """The last row of a page: the next page begins after it."""

    created_at: datetime
    id: str


def page(
    session: Session,
    query: Select[Any],
    table: type[Row],
    after: Position | None,
    limit: int,
) -> tuple[Sequence[Row], Position | None]:
    """Return up to ``limit`` rows of ``query`` after a position, and the next position."""
    key = tuple_(table.created_at, table.id)
    if after is not None:
        query = query.where(key < tuple_(after.created_at, after.id))
    newest_first = query.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)
    rows: Sequence[Row] = session.scalars(newest_first).all()
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    return rows[:limit], Position(last.created_at, last.id)
