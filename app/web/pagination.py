"""Lists: ``limit`` and an opaque ``cursor``, which holds the last item's key."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel
from sqlalchemy import Select
from sqlalchemy.orm import Session

from app.domain.problems import FieldError, Invalid
from app.store import listing

Item = TypeVar("Item", bound=BaseModel)

_VERSION = 1


class Page(BaseModel, Generic[Item]):
    """A part of a list, newest first."""

    items: list[Item]
    next_cursor: str | None


class Walk(BaseModel):
    """Where a list is read from, and how far."""

    limit: int
    after: listing.Position | None


def _walk(
    limit: Annotated[int, Query(ge=1, le=200, description="Items at one time.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=200, description="The `next_cursor` of the page before.")
    ] = None,
) -> Walk:
    return Walk(limit=limit, after=None if cursor is None else decode(cursor))


Walked = Annotated[Walk, Depends(_walk)]


def page(
    session: Session,
    walk: Walk,
    query: Select[Any],
    table: type[listing.Row],
    views: Callable[[Sequence[listing.Row]], list[Item]],
) -> Page[Item]:
    """Return the part of ``query`` that ``walk`` asks for, as clients see it."""
    rows, last = listing.page(session, query, table, walk.after, walk.limit)
    return Page(items=views(rows), next_cursor=None if last is None else encode(last))


def encode(position: listing.Position) -> str:
    """Return a cursor that goes on after ``position``."""
    text = json.dumps([_VERSION, position.created_at.isoformat(), position.id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str) -> listing.Position:
    """Return where a cursor goes on.

    Raises:
        Invalid: It was not made here.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        version, at, last = json.loads(base64.b64decode(padded, b"-_", validate=True))
        position = listing.Position(datetime.fromisoformat(at), str(last))
        sound = version == _VERSION and position.created_at.tzinfo is not None
    except (binascii.Error, ValueError, TypeError):
        sound = False
    if not sound:
        fault = "must be the 'next_cursor' of a page; leave it out to begin"
        errors = [FieldError(pointer="#/query/cursor", detail=fault)]
        raise Invalid(f"The cursor {fault}.", errors=errors)
    return position
