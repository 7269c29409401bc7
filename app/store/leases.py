"""Leases: which worker holds a row, until when, and with which token.

All times are the database's. A worker that takes a row gets a new token. Each later write first
locks the row and compares the token, so an older holder is rejected. An expired lease stays valid
until another worker takes the row, as its token is still current.
"""

from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from app.store.tables import Leased, Run

LOST_AT_ONCE = 2
"""So many holders in a row may go silent before the row waits for its next one."""

LONGEST_PAUSE_SECONDS = 300.0

Row = TypeVar("Row", bound=Leased)


class LeaseLost(Exception):  # noqa: N818 (it says what happened)
    """Another worker holds the row by now, or it is finished: stop, and publish nothing."""


def take(session: Session, row: Leased, owner: str, seconds: float) -> int:
    """Lease a locked row to ``owner`` for ``seconds`` as its next attempt; return the token."""
    row.lease_token += 1
    row.lease_owner = owner
    row.lease_expires_at = seconds_from_now(seconds)
    row.attempts += 1
    session.flush()
    return row.lease_token


def hold(session: Session, table: type[Row], row_id: str, token: int) -> Row:
    """Lock a row for a write of its holder.

    Raises:
        LeaseLost: the token is not current, or the row was deleted.
    """
    row = session.scalars(
        select(table).where(table.id == row_id, table.lease_token == token).with_for_update()
    ).one_or_none()
    if row is None:
        raise LeaseLost(row_id)
    return row


def renew(session: Session, table: type[Row], row_id: str, token: int, seconds: float) -> None:
    """Renew a lease.

    Raises:
        LeaseLost: the token is not current, or the row was deleted.
    """
    renewed = session.execute(
        update(table)
        .where(table.id == row_id, table.lease_token == token)
        .values(lease_expires_at=seconds_from_now(seconds))
        .returning(table.id)
        .execution_options(synchronize_session=False)
    )
    if renewed.scalar_one_or_none() is None:
        raise LeaseLost(row_id)


def release(row: Leased) -> None:
    """End the lease of a locked row; later writes of its holder are rejected by their token."""
    row.lease_owner = None
    row.lease_expires_at = None
    row.lease_token += 1


def give_back(row: Leased, *, spent: bool, delay_seconds: float = 0) -> None:
    """Release a locked row for its next attempt; ``spent`` says whether this one counts."""
    release(row)
    row.attempts -= not spent
    row.not_before = seconds_from_now(delay_seconds)


def pause_after(losses: int) -> float:
    """Return how long a row waits whose last holders went silent, so many in a row.

    Workers die of many things, often several at one time, so the row is hardly to blame. Where it
    is, it takes down few of them in the meantime.
    """
    return 0.0 if losses <= LOST_AT_ONCE else min(2.0**losses, LONGEST_PAUSE_SECONDS)


def lose(row: Run, losses: int) -> bool:
    """Note that the holder of a locked row went silent; return whether there may be another.

    Args:
        row: whose lease is expired.
        losses: how many holders in a row may go silent before there is no other.
    """
    row.losses += 1
    return row.losses < losses


def put_off(
    session: Session, table: type[Row], row_id: str, waits: ColumnElement[bool], seconds: float
) -> None:
    """Make a row that still ``waits`` wait for some more seconds, so that others get a turn."""
    later = {"not_before": seconds_from_now(seconds)}
    session.execute(update(table).where(table.id == row_id, waits).values(later))


def is_due(table: type[Leased]) -> ColumnElement[bool]:
    """Return the condition of rows whose time to wait is over."""
    return table.not_before <= func.now()


def is_held(table: type[Leased]) -> ColumnElement[bool]:
    """Return the condition of rows that a worker has taken, be it silent or not."""
    return table.lease_expires_at.is_not(None)


def is_expired(table: type[Leased]) -> ColumnElement[bool]:
    """Return the condition of rows whose holder was silent for too long."""
    return table.lease_expires_at < func.now()


def is_available(table: type[Leased]) -> ColumnElement[bool]:
    """Return the condition of rows that nobody holds, or a silent worker."""
    return or_(table.lease_expires_at.is_(None), is_expired(table))


def now(session: Session) -> datetime:
    """Return the database's time."""
    time: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return time


def seconds_from_now(seconds: float) -> ColumnElement[Any]:
    """Return the SQL expression of the database's time in ``seconds``."""
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
