"""Resumable uploads: begin one, add bytes, use it, drop it.

The bytes of each request are stored as one object, a part. An upload of one part is published
directly; several parts are joined when a model or dataset is made of them.
"""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.blobs import Incoming
from app.domain import ids
from app.domain.problems import Conflict, FieldError, Invalid, NotFound, TooLarge, TooManyRequests
from app.domain.uploads import Upload, announced_sha256
from app.services import uploads as whole
from app.settings import Settings
from app.store import quotas, uploads
from app.store.tables import UploadPartRow, UploadRow

MOST_PARTS = 10_000


@dataclass(frozen=True)
class Complete:
    """An upload whose bytes have all arrived."""

    id: str
    parts: list[Incoming]
    """The parts. There is a single one, perhaps published already, if a model or dataset was made
    of the upload before."""
    filename: str | None
    sha256: str | None
    """What the whole must have, where the upload's metadata announces it."""
    direct: bool
    """Whether a client sent the parts to the storage, and nobody has read them yet."""


def begin(
    session: Session,
    settings: Settings,
    tenant: str,
    length: int,
    metadata: str,
    filename: str | None,
) -> Upload:
    """Begin an upload of ``length`` bytes.

    Raises:
        TooLarge: It is larger than uploads may be.
        TooManyRequests: It exceeds the storage quota, or there are too many unfinished uploads.
    """
    if length > settings.upload.max_bytes:
        raise TooLarge(f"An upload may have {settings.upload.max_bytes} bytes here.")
    quotas.require_room(session, settings, tenant, length)
    if uploads.unfinished(session, tenant) >= settings.quota.uploads:
        raise TooManyRequests(
            f"{settings.quota.uploads} uploads were begun and not used: finish or delete some.",
            headers={"Retry-After": "3600"},
        )
    row = UploadRow(
        id=ids.new("upl"),
        tenant=tenant,
        length=length,
        metadata_=metadata,
        filename=whole.clean_filename(filename),
    )
    return view(settings, uploads.add(session, row, settings.upload.expire_hours))


def find(session: Session, tenant: str, upload_id: str, *, lock: bool = False) -> UploadRow:
    """Return an upload of the tenant, or raise NotFound."""
    row = uploads.find(session, tenant, upload_id, lock=lock)
    if row is None:
        raise NotFound(f"There is no upload {upload_id!r}; perhaps it has expired.")
    return row


def require_offset(row: UploadRow, start: int) -> None:
    """Refuse bytes that do not continue the upload.

    Raises:
        Conflict: The upload has another offset, which ``Upload-Offset`` states.
        Invalid: It has too many parts.
    """
    if row.offset != start:
        raise Conflict(
            f"The next byte of the upload is {row.offset}, not {start}: ask with HEAD, and go on"
            " there.",
            headers={"Upload-Offset": str(row.offset)},
        )
    if row.parts >= MOST_PARTS:
        raise Invalid(
            f"The upload came in {MOST_PARTS} requests already: begin anew with larger ones."
        )


def append(
    session: Session, settings: Settings, tenant: str, upload_id: str, start: int, part: Incoming
) -> Upload:
    """Add a part whose bytes have arrived.

    Raises:
        NotFound: The upload was deleted meanwhile.
        Conflict: Another request added bytes meanwhile.
    """
    row = find(session, tenant, upload_id, lock=True)
    require_offset(row, start)
    if part.size_bytes:
        session.add(
            UploadPartRow(
                upload_id=row.id,
                start=start,
                size_bytes=part.size_bytes,
                sha256=part.sha256,
                key=part.key,
            )
        )
        row.offset = start + part.size_bytes
        row.parts += 1
        session.flush()
    return view(settings, row)


def complete(session: Session, tenant: str, upload_id: str) -> Complete:
    """Return the bytes of an upload that a request names in its query.

    Raises:
        Invalid: There is no such upload.
        Conflict: Bytes are missing.
    """
    row = uploads.find(session, tenant, upload_id)
    if row is None:
        fault = FieldError(pointer="#/query/upload_id", detail="there is no such upload")
        raise Invalid(f"There is no upload {upload_id!r}; perhaps it has expired.", errors=[fault])
    if row.offset < row.length:
        raise Conflict(
            f"{row.offset} of the {row.length} bytes of the upload have arrived: send the rest."
        )
    if row.sha256 is not None:
        parts = [Incoming(row.sha256, row.length, f"parts/{row.id}")]
    else:
        parts = [Incoming(p.sha256, p.size_bytes, p.key) for p in uploads.parts(session, row.id)]
    direct = any(not part.sha256 for part in parts)
    return Complete(row.id, parts, row.filename, announced_sha256(row.metadata_), direct)


def use(
    session: Session, settings: Settings, tenant: str, upload_id: str, incoming: Incoming
) -> None:
    """Note that a model or dataset is made of the upload; it stays usable until it expires.

    Raises:
        TooManyRequests: It was used before, and the storage quota does not hold it once more.
    """
    row = find(session, tenant, upload_id, lock=True)
    if row.sha256 is not None:
        quotas.require_room(session, settings, tenant, incoming.size_bytes)
    uploads.use(session, row, incoming.sha256)


def drop(session: Session, tenant: str, upload_id: str) -> list[Incoming]:
    """Delete an upload; return the parts, whose bytes the caller has to delete.

    Raises:
        NotFound: It is not the tenant's.
    """
    row = find(session, tenant, upload_id, lock=True)
    parts = [Incoming(p.sha256, p.size_bytes, p.key) for p in uploads.parts(session, row.id)]
    session.delete(row)
    return parts


def view(settings: Settings, row: UploadRow) -> Upload:
    """Return an upload as clients see it."""
    return Upload(
        id=row.id,
        length=row.length,
        offset=row.offset,
        filename=row.filename,
        direct=bool(settings.upload.direct_url),
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
