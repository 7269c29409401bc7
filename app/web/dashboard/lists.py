"""Parts of lists as pages show them."""

from typing import Annotated

from fastapi import Query

from app.domain.datasets import Dataset
from app.domain.job_answers import Job
from app.domain.models import Model
from app.services import datasets, jobs, models
from app.store.jobs import of_tenant
from app.store.tables import DatasetRow, JobRow, ModelRow
from app.store.views import model_view
from app.web.dashboard.visitor import Visitor
from app.web.pagination import Page, Walk, decode, page

_ROWS = 25

Cursor = Annotated[str | None, Query(max_length=200)]


def models_of(visitor: Visitor, cursor: str | None = None, limit: int = _ROWS) -> Page[Model]:
    """Return a part of the visitor's models, newest first."""
    with visitor.call.transaction() as session:
        query = models.of_tenant(visitor.tenant)
        return page(
            session, _walk(cursor, limit), query, ModelRow, lambda rows: [*map(model_view, rows)]
        )


def datasets_of(visitor: Visitor, cursor: str | None = None, limit: int = _ROWS) -> Page[Dataset]:
    """Return a part of the visitor's datasets, newest first."""
    with visitor.call.transaction() as session:
        query = datasets.of_tenant(visitor.tenant)
        return page(
            session,
            _walk(cursor, limit),
            query,
            DatasetRow,
            lambda rows: [*map(datasets.view, rows)],
        )


def jobs_of(
    visitor: Visitor, cursor: str | None = None, limit: int = _ROWS, model: str | None = None
) -> Page[Job]:
    """Return a part of the visitor's jobs, or of those of one model, newest first."""
    with visitor.call.transaction() as session:
        query = of_tenant(visitor.tenant, model=model)
        return page(
            session, _walk(cursor, limit), query, JobRow, lambda rows: jobs.views(session, rows)
        )


def _walk(cursor: str | None, limit: int) -> Walk:
    return Walk(limit=limit, after=None if cursor is None else decode(cursor))
