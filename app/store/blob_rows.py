"""Which bytes are referred to, and which may be collected."""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.store.tables import ArtifactRow, BlobRow, DatasetRow, ModelRow, StepRow, UploadRow

_REFERENCES = (
    ModelRow.sha256,
    ModelRow.onnx_sha256,
    ModelRow.graph_sha256,
    DatasetRow.sha256,
    StepRow.graph_sha256,
    ArtifactRow.sha256,
    UploadRow.sha256,
)


def touch(session: Session, sha256: str, size_bytes: int) -> None:
    """Say that these bytes are about to be referred to, and lock their row until commit.

    A collector that holds the row is waited for; one that comes later finds it young.
    """
    row = insert(BlobRow).values(sha256=sha256, size_bytes=size_bytes)
    session.execute(
        row.on_conflict_do_update(index_elements=[BlobRow.sha256], set_={"touched_at": func.now()})
    )


def size_of(session: Session, sha256: str) -> int:
    """Return how many bytes a blob that somebody refers to has."""
    return session.scalars(select(BlobRow.size_bytes).where(BlobRow.sha256 == sha256)).one()


def unknown(session: Session, digests: Collection[str]) -> set[str]:
    """Return those without a row: a crash came between bytes and row."""
    known = session.scalars(select(BlobRow.sha256).where(BlobRow.sha256.in_(digests)))
    return set(digests).difference(known)


def garbage(session: Session, grace_minutes: float, limit: int) -> Sequence[str]:
    """Return digests that nothing refers to and nobody has touched for the grace."""
    return session.scalars(
        select(BlobRow.sha256).where(_old(grace_minutes), *_unreferenced()).limit(limit)
    ).all()


def forget(session: Session, sha256: str, grace_minutes: float) -> bool:
    """Delete a row that still nothing refers to; return whether it was.

    Until commit, whoever is about to refer to these bytes waits: the caller deletes them before.
    """
    locked = (
        select(BlobRow.sha256)
        .where(BlobRow.sha256 == sha256, _old(grace_minutes))
        .with_for_update(skip_locked=True)
    )
    if session.scalar(locked) is None:
        return False
    gone = delete(BlobRow).where(BlobRow.sha256 == sha256, *_unreferenced())
    return session.scalar(gone.returning(BlobRow.sha256)) is not None


def forget_unknown(session: Session, sha256: str) -> bool:
    """Return whether bytes have no row; then nobody makes one before this transaction ends."""
    row = insert(BlobRow).values(sha256=sha256, size_bytes=0).on_conflict_do_nothing()
    if session.scalar(row.returning(BlobRow.sha256)) is None:
        return False
    session.execute(delete(BlobRow).where(BlobRow.sha256 == sha256))
    return True


def _old(grace_minutes: float) -> ColumnElement[bool]:
    grace = func.make_interval(0, 0, 0, 0, 0, 0, 60 * grace_minutes)
    return BlobRow.touched_at < func.now() - grace


def _unreferenced() -> list[ColumnElement[bool]]:
    return [~exists().where(column == BlobRow.sha256) for column in _REFERENCES]
