"""Resumable uploads, and the parts in which their bytes are stored."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from app.store.tables import UploadPartRow, UploadRow


def add(session: Session, row: UploadRow, hours: float) -> UploadRow:
    """Store a new upload, which expires after some hours."""
    row.expires_at = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, 3600 * hours)
    session.add(row)
    session.flush()
    session.refresh(row)
    return row


def find(session: Session, tenant: str, upload_id: str, *, lock: bool = False) -> UploadRow | None:
    """Return the tenant's upload unless it has expired; with ``lock``, hold it until commit."""
    query = select(UploadRow).where(
        UploadRow.id == upload_id, UploadRow.tenant == tenant, UploadRow.expires_at > func.now()
    )
    return session.scalars(query.with_for_update() if lock else query).one_or_none()


def is_reservation() -> ColumnElement[bool]:
    """Return the condition of rows that keep room for bytes that a request is publishing.

    Such a row has all its bytes and no parts. A complete upload that nobody uses has parts.
    """
    has_all = (UploadRow.offset == UploadRow.length) & (UploadRow.length > 0)
    return UploadRow.sha256.is_(None) & has_all & (UploadRow.parts == 0)


def unfinished(session: Session, tenant: str) -> int:
    """Count the tenant's uploads of which no model or dataset was made yet."""
    query = select(func.count()).where(UploadRow.tenant == tenant, _waits())
    return session.execute(query).scalar_one()


def parts(session: Session, upload_id: str) -> Sequence[UploadPartRow]:
    """Return the parts in order."""
    query = select(UploadPartRow).where(UploadPartRow.upload_id == upload_id)
    return session.scalars(query.order_by(UploadPartRow.start)).all()


def use(session: Session, row: UploadRow, sha256: str) -> None:
    """Note that something is made of an upload, which gives back the room that it had reserved."""
    row.sha256 = sha256
    forget_parts(session, row.id)
    session.flush()


def forget_parts(session: Session, upload_id: str) -> None:
    """Delete the rows of the parts, whose bytes are stored elsewhere now."""
    session.execute(delete(UploadPartRow).where(UploadPartRow.upload_id == upload_id))


def forget(session: Session, upload_id: str) -> None:
    """Delete an upload."""
    session.execute(delete(UploadRow).where(UploadRow.id == upload_id))


def forget_expired(session: Session) -> None:
    """Delete the uploads that have expired; their parts are swept by age."""
    session.execute(delete(UploadRow).where(UploadRow.expires_at < func.now()))


def _waits() -> ColumnElement[bool]:
    return UploadRow.sha256.is_(None) & (UploadRow.expires_at > func.now())
