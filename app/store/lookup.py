"""One row by its id, for its tenant alone."""

from typing import Literal, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store.tables import ArtifactRow, DatasetRow, JobRow, ModelRow, WebhookRow

Row = TypeVar("Row", ModelRow, DatasetRow, JobRow, ArtifactRow, WebhookRow)

Lock = Literal["change", "keep"]
"""``change``: nobody else changes the row until commit; ``keep``: nobody deletes it."""


def find(
    session: Session, table: type[Row], tenant: str, row_id: str, lock: Lock | None = None
) -> Row | None:
    """Return the tenant's row, or None; with a ``lock``, it is held until commit."""
    query = select(table).where(table.id == row_id, table.tenant == tenant)
    if lock is not None:
        query = query.with_for_update(key_share=lock == "keep", read=lock == "keep")
    return session.scalars(query).one_or_none()
