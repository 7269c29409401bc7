"""Periodic work that one process does for all; a row has its owner and when it was done.

All times are the database's.
"""

from collections.abc import Callable

from sqlalchemy import func, or_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.store.leases import seconds_from_now
from app.store.tables import ChoreRow

HELD_SECONDS = 120.0
"""The time after which a silent owner loses the chore to another process."""


def take(session: Session, name: str, owner: str, every_seconds: float) -> bool:
    """Try to take a chore; return True if it was due and free, and is now held by ``owner``."""
    ownership = {"owner": owner, "until": seconds_from_now(HELD_SECONDS)}
    row = insert(ChoreRow).values(name=name, **ownership)
    due = or_(ChoreRow.done_at.is_(None), ChoreRow.done_at < seconds_from_now(-every_seconds))
    free = ChoreRow.until < func.clock_timestamp()
    statement = row.on_conflict_do_update(
        index_elements=[ChoreRow.name], set_=ownership, where=due & free
    ).returning(ChoreRow.name)
    return session.scalar(statement) is not None


def do(
    session: Session,
    name: str,
    owner: str,
    every_seconds: float,
    action: Callable[[Session], object],
) -> None:
    """Do a chore within this transaction, if it is due and free."""
    if take(session, name, owner, every_seconds):
        action(session)
        done(session, name, owner)


def keep(session: Session, name: str, owner: str) -> bool:
    """Renew the hold of the owner; return False if another owner has taken the chore."""
    held = update(ChoreRow).where(ChoreRow.name == name, ChoreRow.owner == owner)
    statement = held.values(until=seconds_from_now(HELD_SECONDS)).returning(ChoreRow.name)
    return session.scalar(statement) is not None


def done(session: Session, name: str, owner: str) -> None:
    """Note that the chore is done, if the owner still holds it."""
    now = func.clock_timestamp()
    held = update(ChoreRow).where(ChoreRow.name == name, ChoreRow.owner == owner)
    session.execute(held.values(done_at=now, until=now))
