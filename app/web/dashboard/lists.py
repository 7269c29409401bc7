"""Parts of lists as pages show them."""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Annotated, TypedDict, TypeVar, Unpack

from fastapi import Query
from sqlalchemy.orm import Session

from app.domain.datasets import Dataset
from app.domain.generated import GENERATED
from app.domain.job_answers import Job
from app.domain.jobs import JobStatus
from app.domain.models import Model
from app.domain.problems import NotFound
from app.services import datasets, jobs, models
from app.services.listing import Walk
from app.web.dashboard import beside
from app.web.dashboard.visitor import Visitor
from app.web.pagination import Page, decode, page

_ROWS = 25
_OFFERED = 100
"""What a form lets one choose from, the newest."""

Cursor = Annotated[str | None, Query(max_length=200)]
Upload = TypeVar("Upload", Model, Dataset)


def models_of(visitor: Visitor, cursor: str | None = None, limit: int = _ROWS) -> Page[Model]:
    """Return a part of the visitor's models, newest first."""
    with visitor.call.transaction() as session:
        return page(models.listed(session, visitor.tenant, walk(cursor, limit)))


def datasets_of(visitor: Visitor, cursor: str | None = None, limit: int = _ROWS) -> Page[Dataset]:
    """Return a part of the visitor's datasets, newest first."""
    with visitor.call.transaction() as session:
        return page(datasets.listed(session, visitor.tenant, walk(cursor, limit)))


def models_offered(visitor: Visitor, chosen: Collection[str]) -> list[Model]:
    """Return the models that a form offers: the newest, and the chosen ones however old they are.

    Rejected ones are of no use in a form, nor is a file that was sent again as it was; the chosen
    ones are there nevertheless.
    """
    newest = models_of(visitor, limit=_OFFERED).items
    return _offered(visitor, _once(newest, chosen), chosen, models.show)


def models_listed(visitor: Visitor, chosen: Collection[str]) -> list[Model]:
    """Return what ``models_offered`` does, and files that were sent again: each has its jobs."""
    return _offered(visitor, models_of(visitor, limit=_OFFERED).items, chosen, models.show)


def datasets_offered(visitor: Visitor, chosen: Collection[str]) -> list[Dataset]:
    """Return the datasets that a form offers, as ``models_offered`` does."""
    named = [each for each in chosen if each != GENERATED]
    newest = datasets_of(visitor, limit=_OFFERED).items
    return _offered(visitor, _once(newest, named), named, datasets.show)


def filename(uploads: Sequence[Model] | Sequence[Dataset], chosen: str) -> str | None:
    """Return the name of the file that was uploaded as the chosen one."""
    return next((upload.filename for upload in uploads if upload.id == chosen), None)


class Chosen(TypedDict, total=False):
    """Which jobs a list has: those that match all that is given."""

    status: JobStatus | None
    model: str | None
    tag: str | None


def jobs_of(
    visitor: Visitor, cursor: str | None = None, limit: int = _ROWS, **chosen: Unpack[Chosen]
) -> Page[Job]:
    """Return a part of the visitor's jobs, newest first."""
    asked = walk(cursor, limit)
    with visitor.call.transaction() as session:
        return page(jobs.listed(session, visitor.tenant, asked, **chosen))


def jobs_called(
    visitor: Visitor, cursor: str | None = None, limit: int = _ROWS, **chosen: Unpack[Chosen]
) -> tuple[Page[Job], dict[str, str]]:
    """Return what ``jobs_of`` does, and what the models of the jobs with names are called.

    The titles of jobs without names say it.
    """
    asked = walk(cursor, limit)
    with visitor.call.transaction() as session:
        found = page(jobs.listed(session, visitor.tenant, asked, **chosen))
        named = [job for job in found.items if job.name]
        return found, jobs.models_called(session, named) if named else {}


def results_of(visitor: Visitor, shown: Sequence[Job]) -> list[beside.Result]:
    """Return the results of jobs that a page shows."""
    with visitor.call.reading() as connection:
        return beside.results(shown, jobs.latencies(connection, shown))


def walk(cursor: str | None, limit: int) -> Walk:
    """Return where a list goes on.

    Args:
        cursor: from the address of a page; None begins with the newest.
        limit: how many items are shown.

    Raises:
        Invalid: The cursor was not made here.
    """
    return Walk(limit=limit, after=None if cursor is None else decode(cursor))


def _once(newest: Iterable[Upload], chosen: Collection[str]) -> list[Upload]:
    """Return uploads without those that differ from a newer one in nothing but their time."""
    seen, kept = set[str](), []
    for each in newest:
        known = each.model_dump_json(exclude={"id", "created_at"})
        if each.id in chosen or known not in seen:
            kept.append(each)
        seen.add(known)
    return kept


def _offered(
    visitor: Visitor,
    newest: Iterable[Upload],
    chosen: Collection[str],
    show: Callable[[Session, str, str], Upload],
) -> list[Upload]:
    found = [each for each in newest if each.status != "rejected" or each.id in chosen]
    there = {each.id for each in found}
    for named in dict.fromkeys(chosen):
        if named and named not in there:
            with visitor.call.transaction() as session, suppress(NotFound):
                found.append(show(session, visitor.tenant, named))
    return found
