"""Jobs as callers see them: counted, ranked, listed, deleted. For workers see ``runs``."""

from collections.abc import Iterable, Sequence
from typing import Any, get_args

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.orm import Session

from app.domain import ids
from app.domain.jobs import JobRequest, JobStatus
from app.store import locks, named
from app.store.tables import ArtifactRow, JobRow, Json, ModelRow, StepRow

_ACTIVE: ColumnElement[bool] = JobRow.status.in_(["queued", "running"])

_ASKED: ColumnElement[bool] = JobRow.parent_id.is_(None)
"""What users asked for; the others are trials, which searches filed."""

Reader = Session | Connection
AnyRow = Row[*tuple[Any, ...]]

_TURN = (JobRow.priority.desc(), JobRow.created_at, JobRow.id)
"""The order in which a tenant's jobs start; see ``turns`` for the order of tenants."""

# Built once: building a statement costs more than running it.
_ARTIFACTS = (
    select(ArtifactRow)
    .where(ArtifactRow.job_id == func.any(bindparam("jobs", type_=ARRAY(Text))))
    .order_by(ArtifactRow.created_at, ArtifactRow.id)
)
_STEP_REPORTS = (
    select(StepRow.report)
    .where(StepRow.job_id == bindparam("job"), StepRow.report.is_not(None))
    .order_by(StepRow.index)
)
_LATENCIES = select(JobRow.id, JobRow.evaluation["latency"]).where(
    JobRow.id == func.any(bindparam("jobs", type_=ARRAY(Text)))
)
_CALLED = func.coalesce(ModelRow.name, ModelRow.filename)
_MODEL_NAMES = select(ModelRow.id, _CALLED).where(
    ModelRow.id == func.any(bindparam("models", type_=ARRAY(Text))), _CALLED.is_not(None)
)
_ARTIFACT = func.to_jsonb(literal_column(ArtifactRow.__tablename__))  # the whole row
_WHOLE = select(
    *(
        column
        for column in JobRow.__table__.columns
        if column.key not in {"evaluation", "manifest"}
    ),
    select(_CALLED).where(ModelRow.id == JobRow.model_id).scalar_subquery().label("model_name"),
    select(func.jsonb_agg(aggregate_order_by(_ARTIFACT, ArtifactRow.created_at, ArtifactRow.id)))
    .where(ArtifactRow.job_id == JobRow.id)
    .scalar_subquery()
    .label("artifacts"),
    select(func.jsonb_agg(aggregate_order_by(StepRow.report, StepRow.index)))
    .where(StepRow.job_id == JobRow.id, StepRow.report.is_not(None))
    .scalar_subquery()
    .label("step_reports"),
).where(JobRow.id == bindparam("id"), JobRow.tenant == bindparam("tenant"))


def row(tenant: str, request: JobRequest) -> JobRow:
    """Return the row of a job that is asked for; it enters its first state in ``transitions``."""
    return JobRow(
        id=ids.new("job"),
        tenant=tenant,
        name=request.name,
        tags=list(dict.fromkeys(request.tags)),
        request=request.model_dump(mode="json", exclude={"webhook": {"secret"}}),
        model_id=request.model,
        dataset_id=request.dataset,
        priority=request.priority,
        requires_device=request.requires.device,
        requires_labels=sorted(set(request.requires.labels)),
        status="queued",
        stage="queued",
        progress=0.0,
    )


def active(session: Session, tenant: str) -> int:
    """Count the tenant's queued and running jobs; another count waits until this commits.

    A search counts as one job, whatever trials it has.
    """
    locks.take(session, f"jobs:{tenant}")
    count = select(func.count()).select_from(JobRow).where(JobRow.tenant == tenant, _ACTIVE, _ASKED)
    return session.execute(count).scalar_one()


MOST_COUNTED = 1000


def counts(session: Session, tenant: str) -> dict[str, int]:
    """Count the tenant's jobs by their status, without trials, each up to ``MOST_COUNTED``."""
    counted = []
    for status in get_args(JobStatus):
        jobs = select(JobRow.id).where(JobRow.tenant == tenant, JobRow.status == status, _ASKED)
        rows = jobs.limit(MOST_COUNTED).subquery()
        number = select(func.count()).select_from(rows).scalar_subquery()
        counted.append(select(literal(status), number))
    return dict(session.execute(union_all(*counted)).all())


def using_model(session: Session, model_id: str) -> str | None:
    """Return the id of a queued or running job that uses the model, if any."""
    return session.scalar(select(JobRow.id).where(named.reads_model(model_id), _ACTIVE).limit(1))


def using_dataset(session: Session, dataset_id: str) -> str | None:
    """Return the id of a queued or running job that uses the dataset, if any."""
    uses = named.reads_dataset(dataset_id)
    return session.scalar(select(JobRow.id).where(uses, _ACTIVE).limit(1))


def of_tenant(
    tenant: str,
    *,
    status: str | None = None,
    model: str | None = None,
    tag: str | None = None,
    parent: str | None = None,
) -> Select[JobRow]:
    """Select the tenant's jobs that match all given filters.

    Trials are left out, unless ``parent`` names their search.
    """
    query = select(JobRow).where(
        JobRow.tenant == tenant, _ASKED if parent is None else JobRow.parent_id == parent
    )
    if status is not None:
        query = query.where(JobRow.status == status)
    if model is not None:
        query = query.where(JobRow.model_id == model)
    if tag is not None:
        query = query.where(JobRow.tags.contains([tag]))
    return query


def artifacts_of(job_id: str) -> Select[ArtifactRow]:
    """Select the artifacts of one job."""
    return select(ArtifactRow).where(ArtifactRow.job_id == job_id)


def artifacts(session: Session, job_ids: Iterable[str]) -> dict[str, list[ArtifactRow]]:
    """Return the artifacts of several jobs, by the id of the job."""
    by_job: dict[str, list[ArtifactRow]] = {job_id: [] for job_id in job_ids}
    for row in session.scalars(_ARTIFACTS, {"jobs": list(by_job)}):
        by_job[row.job_id].append(row)
    return by_job


def model_names(session: Session, model_ids: Iterable[str]) -> dict[str, str]:
    """Return what models are called, by their ids; those that have no name are left out."""
    return dict(session.execute(_MODEL_NAMES, {"models": [*set(model_ids)]}).all())


def step_reports(session: Session, job_id: str) -> Sequence[Json | None]:
    """Return the reports of the job's measured steps, in order."""
    return session.scalars(_STEP_REPORTS, {"job": job_id}).all()


def latencies(reader: Reader, job_ids: Sequence[str]) -> dict[str, Json | None]:
    """Return how each job's result compared with the original in time, where a report says it."""
    return dict(reader.execute(_LATENCIES, {"jobs": list(job_ids)}).all())


def whole(reader: Reader, tenant: str, job_id: str) -> AnyRow | None:
    """Return a job of the tenant with its model's name, artifacts and reports, in one round trip.

    ``artifacts`` and ``step_reports`` are lists of JSON, or None; ``evaluation`` and
    ``manifest`` are left out.
    """
    return reader.execute(_WHOLE, {"id": job_id, "tenant": tenant}).one_or_none()


def positions(reader: Reader, rows: Iterable[JobRow | AnyRow]) -> dict[str, int]:
    """Return the positions, from 1, of queued jobs in the tenant's queue.

    Args:
        reader: A session or connection of the job store.
        rows: Jobs of one tenant.
    """
    queued = [row for row in rows if row.status == "queued"]
    if not queued:
        return {}
    last = max((-row.priority, row.created_at, row.id) for row in queued)
    key = tuple_(-JobRow.priority, JobRow.created_at, JobRow.id)
    ranks = (
        select(JobRow.id, func.row_number().over(order_by=_TURN).label("rank"))
        .where(
            JobRow.tenant == queued[0].tenant,
            JobRow.status == text("'queued'"),
            key <= tuple_(*last),
        )
        .subquery()
    )
    condition = ranks.c.id.in_([row.id for row in queued])
    return dict(reader.execute(select(ranks.c.id, ranks.c.rank).where(condition)).all())
