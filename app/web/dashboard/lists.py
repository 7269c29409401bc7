"""Parts of lists as pages show them."""

from contextlib import suppress
from typing import Annotated

from fastapi import Query

from app.domain.datasets import Dataset
from app.domain.generated import GENERATED
from app.domain.job_answers import Job
from app.domain.models import Model
from app.domain.problems import NotFound
from app.services import datasets, jobs, models
from app.services.listing import Walk
from app.web.dashboard.visitor import Visitor
from app.web.pagination import Page, decode, page

_ROWS = 25
_OFFERED = 100
"""What a form lets one choose from, the newest."""

Cursor = Annotated[str | None, Query(max_length=200)]


def models_of(visitor: Visitor, cursor: str | None = None, limit: int = _ROWS) -> Page[Model]:
    """Return a part of the visitor's models, newest first."""
    with visitor.call.transaction() as session:
        return page(models.listed(session, visitor.tenant, walk(cursor, limit)))


def datasets_of(visitor: Visitor, cursor: str | None = None, limit: int = _ROWS) -> Page[Dataset]:
    """Return a part of the visitor's datasets, newest first."""
    with visitor.call.transaction() as session:
        return page(datasets.listed(session, visitor.tenant, walk(cursor, limit)))


def models_offered(visitor: Visitor, chosen: str) -> list[Model]:
    """Return the models that a form offers: the newest, and the chosen one however old it is.

    Rejected ones are of no use in a form.
    """
    newest = models_of(visitor, limit=_OFFERED).items
    found = [model for model in newest if model.status != "rejected" or model.id == chosen]
    if chosen and all(model.id != chosen for model in found):
        with visitor.call.transaction() as session, suppress(NotFound):
            found = [*found, models.show(session, visitor.tenant, chosen)]
    return found


def datasets_offered(visitor: Visitor, chosen: str = "") -> list[Dataset]:
    """Return the datasets that a form offers, as ``models_offered`` does."""
    newest = datasets_of(visitor, limit=_OFFERED).items
    found = [data for data in newest if data.status != "rejected" or data.id == chosen]
    if chosen not in {"", GENERATED, *(dataset.id for dataset in found)}:
        with visitor.call.transaction() as session, suppress(NotFound):
            row = datasets.find(session, visitor.tenant, chosen)
            found = [*found, datasets.view(row)]
    return found


def jobs_of(
    visitor: Visitor, cursor: str | None = None, limit: int = _ROWS, model: str | None = None
) -> Page[Job]:
    """Return a part of the visitor's jobs, or of those of one model, newest first."""
    with visitor.call.transaction() as session:
        return page(jobs.listed(session, visitor.tenant, walk(cursor, limit), model=model))


def walk(cursor: str | None, limit: int) -> Walk:
    """Return where a list goes on.

    Args:
        cursor: from the address of a page; None begins with the newest.
        limit: how many items are shown.

    Raises:
        Invalid: The cursor was not made here.
    """
    return Walk(limit=limit, after=None if cursor is None else decode(cursor))
