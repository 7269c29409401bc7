"""Lists: ``limit`` and an opaque ``cursor``, which holds the last item's key."""

import base64
import binascii
import json
from datetime import datetime
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel

from app.domain.problems import FieldError, Invalid
from app.services.listing import Part, Position, Walk

Item = TypeVar("Item", bound=BaseModel)

_VERSION = 1


class Page(BaseModel, Generic[Item]):
    """A part of a list, newest first."""

    items: list[Item]
    next_cursor: str | None


def _walk(
    limit: Annotated[int, Query(ge=1, le=200, description="Items at one time.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=200, description="The `next_cursor` of the page before.")
    ] = None,
) -> Walk:
    return Walk(limit=limit, after=None if cursor is None else decode(cursor))


Walked = Annotated[Walk, Depends(_walk)]


def page(part: Part[Item]) -> Page[Item]:
    """Return a part of a list with the cursor of the next one."""
    return Page(items=part.items, next_cursor=None if part.last is None else encode(part.last))


def encode(position: Position) -> str:
    """Return a cursor that goes on after ``position``."""
    text = json.dumps([_VERSION, position.created_at.isoformat(), position.id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str) -> Position:
    """Return where a cursor goes on.

    Raises:
        Invalid: It was not made here.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        version, at, last = json.loads(base64.b64decode(padded, b"-_", validate=True))
        position = Position(datetime.fromisoformat(at), str(last))
        sound = version == _VERSION and position.created_at.tzinfo is not None
    except (binascii.Error, ValueError, TypeError):
        sound = False
    if not sound:
        fault = "must be the 'next_cursor' of a page; leave it out to begin"
        errors = [FieldError(pointer="#/query/cursor", detail=fault)]
        raise Invalid(f"The cursor {fault}.", errors=errors)
    return position
