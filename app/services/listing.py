"""Parts of lists, as services give them: newest first, as clients see each item."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import Session

from app.store import listing
from app.store.listing import Row

Item = TypeVar("Item")

Position = listing.Position


@dataclass(frozen=True)
class Walk:
    """Where a list is read from, and how far."""

    limit: int
    after: Position | None = None
    """The last item that was seen; None begins with the newest."""


@dataclass(frozen=True)
class Part(Generic[Item]):
    """A part of a list."""

    items: list[Item]
    last: Position | None
    """Where the next part begins; None after the last one."""


def part(
    session: Session,
    walk: Walk,
    query: Select[Any],
    table: type[Row],
    views: Callable[[Sequence[Row]], list[Item]],
) -> Part[Item]:
    """Return the part of ``query`` that ``walk`` asks for."""
    rows, last = listing.page(session, query, table, walk.after, walk.limit)
    return Part(views(rows), last)
