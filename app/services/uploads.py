"""Stores a complete upload: its row, and its bytes under their digest."""

import re
from typing import TypeVar

from sqlalchemy.orm import Session

from app.blobs import Blobs, Incoming
from app.domain.problems import FieldError, Invalid, TooManyRequests, UnsupportedMedia
from app.settings import Settings
from app.store import blob_rows, stats, usage
from app.store.tables import DatasetRow, ModelRow

Row = TypeVar("Row", ModelRow, DatasetRow)

HEAD_BYTES = 64
"""Bytes of an upload that ``require_plausible`` examines."""

_NEVER = (
    (re.compile(rb"MZ|\x7fELF|\xca\xfe\xba\xbe|#!"), "a program"),
    (re.compile(rb"\s*<(!doctype|html|\?xml)", re.IGNORECASE), "a web page or XML"),
    (re.compile(rb"\x80[\x02-\x05][}\]()cXK\x8a\x8c\x95]"), "a Python pickle, which runs code"),
    (re.compile(rb"%PDF-|\x89PNG|GIF8|\xff\xd8\xff"), "a document or a picture"),
)
_INSTEAD = {
    "model": "Upload an .onnx file, or a zip or tar of one with its external data.",
    "dataset": "Upload an .npz, a .parquet, or a zip of class folders of images.",
}


def require_plausible(kind: str, head: bytes) -> None:
    """Refuse, before it is stored, an upload whose first bytes show a wrong kind of file.

    Raises:
        UnsupportedMedia: The file is of a wrong kind; the message says what to upload instead.
        Invalid: There are no bytes.
    """
    instead = _INSTEAD[kind]
    if not head:
        fault = f"The body is empty. {instead}"
        raise Invalid(fault, errors=[FieldError(pointer="#", detail="must not be empty")])
    for pattern, wrong_kind in _NEVER:
        if pattern.match(head):
            raise UnsupportedMedia(f"The body is {wrong_kind}, not a {kind}. {instead}")


def clean_filename(name: str | None) -> str | None:
    """Return the last part of a path without control characters; None if nothing is left."""
    if name is None:
        return None
    last = re.split(r"[/\\]", name)[-1]
    printable = "".join(char for char in last if char.isprintable()).strip(" .")
    return printable[:200] or None


def keep(session: Session, settings: Settings, blobs: Blobs, incoming: Incoming, row: Row) -> Row:
    """Store the row, then publish the bytes; in this order a collector does not delete them.

    Raises:
        TooManyRequests: The tenant's storage quota does not hold it.
    """
    require_room(session, settings, row.tenant, incoming.size_bytes)
    blob_rows.touch(session, incoming.sha256, incoming.size_bytes)
    blobs.publish(incoming)
    row.sha256 = incoming.sha256
    row.size_bytes = incoming.size_bytes
    session.add(row)
    session.flush()
    usage.add(session, row.tenant)
    return row


def require_room(session: Session, settings: Settings, tenant: str, size_bytes: int) -> None:
    """Refuse an upload that exceeds the tenant's storage quota.

    Raises:
        TooManyRequests: The upload exceeds the quota.
    """
    free = settings.quota.stored_bytes - stats.stored_bytes(session, tenant)
    if size_bytes > free:
        raise TooManyRequests(
            f"The upload has {size_bytes} bytes, and {max(free, 0)} of your quota of"
            f" {settings.quota.stored_bytes} are free: delete models, datasets or jobs.",
            headers={"Retry-After": "3600"},
        )
