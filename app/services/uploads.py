"""Stores a complete upload: its row, and its bytes under their digest."""

import re
from typing import TypeVar

from sqlalchemy.orm import Session

from app.blobs import Incoming
from app.domain import ids
from app.domain.problems import Conflict, Unavailable
from app.settings import Settings
from app.store import blob_rows, fetches, quotas, uploads, usage
from app.store.tables import DatasetRow, ModelRow, UploadRow

AnyRow = ModelRow | DatasetRow
Row = TypeVar("Row", bound=AnyRow)

_RESERVED_HOURS = 1.0
"""The time in which reserved bytes have to be published and used."""


def clean_filename(name: str | None) -> str | None:
    """Return the last part of a path without control characters; None if nothing is left."""
    if name is None:
        return None
    last = re.split(r"[/\\]", name)[-1]
    printable = "".join(char for char in last if char.isprintable()).strip(" .")
    return printable[:200] or None


def reserve(session: Session, settings: Settings, tenant: str, incoming: Incoming) -> str:
    """Reserve room for bytes that have arrived, so that they may be published next.

    Nobody else takes this room, and no collector deletes the bytes, before something is made of
    them: publishing takes no transaction.

    Returns:
        The reservation, to be released in the transaction that makes something of the bytes.

    Raises:
        TooManyRequests: The tenant's storage quota does not hold them.
    """
    quotas.require_room(session, settings, tenant, incoming.size_bytes)
    row = UploadRow(
        id=ids.new("upl"),
        tenant=tenant,
        length=incoming.size_bytes,
        offset=incoming.size_bytes,
        metadata_="",
    )
    blob_rows.touch(session, incoming.sha256, incoming.size_bytes)
    return uploads.add(session, row, _RESERVED_HOURS).id


def announce(session: Session, incoming: Incoming) -> None:
    """Keep collectors from bytes that are published next, whose room was reserved before."""
    blob_rows.touch(session, incoming.sha256, incoming.size_bytes)


def release(session: Session, reservation: str) -> None:
    """Give the reserved room back."""
    uploads.forget(session, reservation)


def keep(session: Session, row: Row, sha256: str, size_bytes: int) -> Row:
    """Store a model or dataset whose bytes are published, with room reserved; it is then inspected.

    Raises:
        Unavailable: The bytes were not used for so long that they were deleted.
    """
    if not blob_rows.touch_published(session, sha256):
        raise Unavailable(
            "The upload was stored too slowly, and was deleted meanwhile: send it again.",
            headers={"Retry-After": "5"},
        )
    row.sha256, row.size_bytes = sha256, size_bytes
    session.add(row)
    session.flush()
    usage.add(session, row.tenant)
    return row


def remove(session: Session, row: AnyRow, user: str | None) -> None:
    """Delete a model or dataset.

    Args:
        session: a transaction that has locked the row.
        row: the model or dataset.
        user: a queued or running job that uses it.

    Raises:
        Conflict: There is such a job.
    """
    if user is not None:
        kind = "model" if isinstance(row, ModelRow) else "dataset"
        raise Conflict(f"Job {user} still uses the {kind}: cancel it, or wait until it ends.")
    fetches.forget(session, row.id)
    session.delete(row)
