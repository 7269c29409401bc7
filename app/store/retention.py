"""Deletes rows that are older than they are to be kept, in portions: jobs, deliveries, uploads.

Ages are the database's. Rows that are locked, or in use, stay for the next time.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Double,
    delete,
    exists,
    func,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from app.settings import Retained, Retention
from app.store import jobs, made_samples, measured, uploads
from app.store.tables import (
    ArtifactRow,
    DatasetRow,
    DeliveryRow,
    EventRow,
    IdempotencyRow,
    JobRow,
    LayerTimeRow,
    ModelRow,
    PriceListRow,
    StepRow,
    WorkerRow,
)

_DAY_SECONDS = 86_400.0
_AGE = func.extract("epoch", func.now() - JobRow.finished_at).cast(Double) / _DAY_SECONDS


class Ended(NamedTuple):
    """A job that has ended."""

    id: str
    tenant: str
    finished_at: datetime
    days: float


def prune_jobs(
    session: Session, retention: Retention, after: Ended | None, limit: int
) -> Ended | None:
    """Delete ended jobs, or their events, graphs and artifacts, where they are old enough.

    Args:
        session: Of the job store.
        retention: For how long each is kept.
        after: Where the portion before this one ended.
        limit: How many jobs are looked at.

    Returns:
        Where the portion ended; None if there is nothing older left to look at.
    """
    least = _least(retention)
    if least is None:
        return None
    found = _ended(session, after, limit)
    for kind, prune in _PRUNE.items():
        old = [job.id for job in found if _is_old(job, retention, kind)]
        if old:
            prune(session, [*_trials(session, old), *old])
    return found[-1] if found and found[-1].days > least else None


def prune_deliveries(session: Session, retention: Retention, limit: int) -> int:
    """Delete deliveries that were made or given up; return how many."""
    count = 0
    for days, of_tenants in _scopes(retention, "deliveries", DeliveryRow):
        old = select(DeliveryRow.id).where(
            DeliveryRow.status != literal_column("'pending'"),
            DeliveryRow.created_at < _before(days),
            of_tenants,
        )
        portion = old.order_by(DeliveryRow.created_at).limit(limit)
        locked = session.scalars(portion.with_for_update(skip_locked=True)).all()
        session.execute(delete(DeliveryRow).where(DeliveryRow.id.in_(locked)))
        count += len(locked)
    return count


def prune_uploads(
    session: Session,
    retention: Retention,
    table: type[ModelRow] | type[DatasetRow],
    limit: int,
) -> int:
    """Delete models or datasets that no job has used for long; return how many."""
    column = JobRow.model_id if table is ModelRow else JobRow.dataset_id
    using = jobs.using_model if table is ModelRow else jobs.using_dataset
    count = 0
    for days, of_tenants in _scopes(retention, "uploads", table):
        used = exists().where(column == table.id, JobRow.created_at >= _before(days))
        old = select(table).where(
            func.coalesce(table.used_at, table.created_at) < _before(days),
            table.status != "inspecting",
            of_tenants,
            ~used,
        )
        portion = old.order_by(table.created_at).limit(limit)
        rows: list[ModelRow | DatasetRow] = [
            *session.scalars(portion.with_for_update(skip_locked=True))
        ]
        for row in rows:
            if using(session, row.id) is None:
                session.delete(row)
                count += 1
    session.flush()
    return count


def forget_expired(session: Session, idempotency_hours: float) -> None:
    """Delete old answers, times and prices, uploads that nobody ended, workers that stopped."""
    before = _before(idempotency_hours / 24)
    session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < before))
    uploads.forget_expired(session)
    measured.forget_old(session, LayerTimeRow)
    measured.forget_old(session, PriceListRow)
    session.execute(delete(WorkerRow).where(WorkerRow.seen_at < _before(1)))


def note_use(
    session: Session, table: type[ModelRow] | type[DatasetRow], row_ids: Sequence[str]
) -> None:
    """Note, once a day, that jobs use these models or datasets."""
    stale = table.used_at.is_(None) | (table.used_at < _before(1))
    session.execute(
        update(table)
        .where(table.id.in_(row_ids), stale)
        .values(used_at=func.now())
        .execution_options(synchronize_session=False)
    )


def _ended(session: Session, after: Ended | None, limit: int) -> list[Ended]:
    position = tuple_(JobRow.finished_at, JobRow.id)
    query = select(JobRow.id, JobRow.tenant, JobRow.finished_at, _AGE).where(
        JobRow.finished_at.is_not(None), JobRow.parent_id.is_(None)
    )
    if after is not None:
        query = query.where(position > tuple_(after.finished_at, after.id))
    query = query.order_by(JobRow.finished_at, JobRow.id).limit(limit)
    found = session.execute(query.with_for_update(skip_locked=True))
    return [Ended(id_, tenant, at, float(days)) for id_, tenant, at, days in found if at]


def _trials(session: Session, ids: list[str]) -> Sequence[str]:
    """Return the trials of searches, which are as old as their search."""
    return session.scalars(select(JobRow.id).where(JobRow.parent_id.in_(ids))).all()


def _delete_jobs(session: Session, ids: list[str]) -> None:
    session.execute(delete(JobRow).where(JobRow.id.in_(ids)))


def _delete_events(session: Session, ids: list[str]) -> None:
    session.execute(delete(EventRow).where(EventRow.job_id.in_(ids)))


def _forget_graphs(session: Session, ids: list[str]) -> None:
    graphs = StepRow.job_id.in_(ids) & StepRow.graph_sha256.is_not(None)
    session.execute(update(StepRow).where(graphs).values(graph_sha256=None, size_bytes=0))
    made_samples.forget(session, ids)


def _delete_artifacts(session: Session, ids: list[str]) -> None:
    session.execute(delete(ArtifactRow).where(ArtifactRow.job_id.in_(ids)))


_PRUNE = {
    "jobs": _delete_jobs,
    "events": _delete_events,
    "steps": _forget_graphs,
    "artifacts": _delete_artifacts,
}


def _least(retention: Retention) -> float | None:
    """Return the age in days below which no job has anything to delete; None if none ever has."""
    scopes = [retention, *(retention.of(tenant) for tenant in retention.tenants)]
    bounds = (each.days(kind) for each in scopes for kind in _PRUNE)
    return min((days for days in bounds if days is not None), default=None)


def _is_old(job: Ended, retention: Retention, kind: str) -> bool:
    days = retention.of(job.tenant).days(kind)
    return days is not None and job.days > days


def _scopes(
    retention: Retention,
    kind: str,
    table: type[ModelRow] | type[DatasetRow] | type[DeliveryRow],
) -> Iterator[tuple[float, ColumnElement[bool]]]:
    """Yield each bound in days with the tenants that it is for."""
    scopes: list[tuple[Retained, ColumnElement[bool]]] = [
        (retention, table.tenant.not_in(list(retention.tenants)))
    ]
    scopes += [(retention.of(tenant), table.tenant == tenant) for tenant in retention.tenants]
    for scope, of_tenants in scopes:
        days = scope.days(kind)
        if days is not None:
            yield days, of_tenants


def _before(days: float) -> ColumnElement[datetime]:
    """Return the time some days ago, when this transaction began: indexes can be searched by it."""
    return func.now() - func.make_interval(0, 0, 0, 0, 0, 0, days * _DAY_SECONDS)
