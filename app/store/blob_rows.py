"""Tracks which blobs are referenced, and which may be deleted."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, delete, exists, func, select, union, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.store import leases, uploads
from app.store.tables import (
    ArtifactRow,
    BlobRow,
    DatasetRow,
    FetchRow,
    JobRow,
    MadeSamplesRow,
    ModelRow,
    PriceListRow,
    StepRow,
    UploadRow,
)

_REFERENCES = (
    ModelRow.sha256,
    ModelRow.onnx_sha256,
    ModelRow.graph_sha256,
    DatasetRow.sha256,
    StepRow.graph_sha256,
    PriceListRow.sha256,
    ArtifactRow.sha256,
    MadeSamplesRow.sha256,
    UploadRow.sha256,
)


def touch(session: Session, sha256: str, size_bytes: int) -> None:
    """Note that a blob is about to be referenced, and lock its row until commit.

    The call waits for a collector that holds the row; a later collector finds the row recently
    touched.
    """
    row = insert(BlobRow).values(sha256=sha256, size_bytes=size_bytes)
    session.execute(
        row.on_conflict_do_update(index_elements=[BlobRow.sha256], set_={"touched_at": func.now()})
    )


def touch_published(session: Session, sha256: str) -> bool:
    """Note that a published blob is about to be referenced, as ``touch`` does.

    Returns False if a collector has deleted it meanwhile.
    """
    touched = update(BlobRow).where(BlobRow.sha256 == sha256).values(touched_at=func.now())
    return session.scalar(touched.returning(BlobRow.sha256)) is not None


def of_tenant(session: Session, tenant: str) -> Sequence[str]:
    """Return the SHA-256 of every blob that a row of the tenant refers to."""
    mine = []
    for column in _REFERENCES:
        query = select(column.label("sha256")).where(column.is_not(None))
        if column.class_ is StepRow:
            query = query.join(JobRow, JobRow.id == StepRow.job_id).where(JobRow.tenant == tenant)
        else:
            query = query.where(column.class_.tenant == tenant)
        mine.append(query)
    return [sha256 for sha256 in session.scalars(union(*mine)) if sha256]


def size_of(session: Session, sha256: str) -> int:
    """Return the size of a referenced blob."""
    return session.scalars(select(BlobRow.size_bytes).where(BlobRow.sha256 == sha256)).one()


def unknown(session: Session, digests: Collection[str]) -> set[str]:
    """Return the digests without a row, which a crash between the two writes leaves."""
    existing = session.scalars(select(BlobRow.sha256).where(BlobRow.sha256.in_(digests)))
    return set(digests).difference(existing)


def quiet_since(session: Session, grace_minutes: float = 0) -> datetime:
    """Return the time since which all work that goes on was begun, or that of the grace.

    A blob that was last touched before it, and that nothing refers to, will not be referred to by
    that work, however long that takes to store its files.
    """
    begun = [
        select(func.min(JobRow.claimed_at)).where(leases.is_held(JobRow)),
        select(func.min(UploadRow.created_at)).where(uploads.is_reservation()),
        *(
            select(func.min(table.created_at)).where(leases.is_held(table))
            for table in (ModelRow, DatasetRow, FetchRow)
        ),
    ]
    times = (each.scalar_subquery() for each in begun)
    grace = leases.seconds_from_now(-60 * grace_minutes)
    found: datetime = session.execute(select(func.least(grace, *times))).scalar_one()
    return found


def garbage(session: Session, untouched_since: datetime, limit: int) -> Sequence[str]:
    """Return digests of blobs that are unreferenced and untouched since some time."""
    old = BlobRow.touched_at < untouched_since
    return session.scalars(select(BlobRow.sha256).where(old, *_unreferenced()).limit(limit)).all()


def unreferenced(session: Session, digests: Collection[str]) -> int:
    """Count those of some blobs that nothing refers to."""
    query = select(func.count()).where(BlobRow.sha256.in_(digests), *_unreferenced())
    return session.execute(query).scalar_one()


def forget(session: Session, sha256: str, untouched_since: datetime) -> bool:
    """Delete the row of a blob that is still unreferenced and untouched; return whether it was.

    Until commit, callers that are about to reference the blob wait, so the caller deletes the
    bytes before the commit.
    """
    locked = (
        select(BlobRow.sha256)
        .where(BlobRow.sha256 == sha256, BlobRow.touched_at < untouched_since)
        .with_for_update(skip_locked=True)
    )
    if session.scalar(locked) is None:
        return False
    deletion = delete(BlobRow).where(BlobRow.sha256 == sha256, *_unreferenced())
    return session.scalar(deletion.returning(BlobRow.sha256)) is not None


def forget_unknown(session: Session, sha256: str) -> bool:
    """Return whether a blob has no row; then none can be created before this transaction ends."""
    row = insert(BlobRow).values(sha256=sha256, size_bytes=0).on_conflict_do_nothing()
    if session.scalar(row.returning(BlobRow.sha256)) is None:
        return False
    session.execute(delete(BlobRow).where(BlobRow.sha256 == sha256))
    return True


def _unreferenced() -> list[ColumnElement[bool]]:
    return [~exists().where(column == BlobRow.sha256) for column in _REFERENCES]
