"""Samples that are made from a model: kept for all runs of their job, or all trials of a search.

They belong to a search, whose trials all read them, or to any other job, which reads them itself.
They are deleted when that job succeeds or is deleted, and with the graphs of its steps.
"""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.blobs import Blob
from app.domain.reports import Generated
from app.store import blob_rows
from app.store.tables import JobRow, MadeSamplesRow


def owner_of(job: JobRow) -> str:
    """Return the job that made samples belong to: of a trial, its search."""
    return job.parent_id or job.id


def of_job(session: Session, job: JobRow) -> MadeSamplesRow | None:
    """Return the samples that a job reads; None where none were made yet."""
    return session.get(MadeSamplesRow, owner_of(job))


def hold_search(session: Session, job_id: str) -> None:
    """Lock the search of a trial against deletion until commit; for any other job do nothing.

    To be called before the trial is locked. The row of its samples refers to the search, which
    locks that anyway, and ``searches`` says in which order both are locked.
    """
    search = select(JobRow.parent_id).where(JobRow.id == job_id).scalar_subquery()
    locked = select(JobRow.id).where(JobRow.id == search)
    session.execute(locked.with_for_update(read=True, key_share=True))


def keep(session: Session, job: JobRow, arrays: Blob, generated: Generated) -> None:
    """Keep the samples that a job has made; those that were kept first stay."""
    blob_rows.touch(session, arrays.sha256, arrays.size_bytes)
    row = insert(MadeSamplesRow).values(
        job_id=owner_of(job),
        tenant=job.tenant,
        sha256=arrays.sha256,
        size_bytes=arrays.size_bytes,
        generated=generated.model_dump(mode="json"),
    )
    session.execute(row.on_conflict_do_nothing())


def forget(session: Session, job_ids: Sequence[str]) -> None:
    """Delete the samples of jobs that do not run again."""
    session.execute(delete(MadeSamplesRow).where(MadeSamplesRow.job_id.in_(job_ids)))
