"""Work that one worker does for all, now and then: a row says who is at it, and when it was done.

All times are the database's.
"""

from sqlalchemy import func, or_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.store.leases import seconds_from_now
from app.store.tables import ChoreRow

HELD_SECONDS = 120.0
"""How long an owner may be silent before somebody else goes on."""


def take(session: Session, name: str, owner: str, every_seconds: float) -> bool:
    """Return whether the chore is ``owner``'s now: its time has come, and nobody is at it."""
    mine = {"owner": owner, "until": seconds_from_now(HELD_SECONDS)}
    row = insert(ChoreRow).values(name=name, **mine)
    due = or_(ChoreRow.done_at.is_(None), ChoreRow.done_at < seconds_from_now(-every_seconds))
    free = ChoreRow.until < func.clock_timestamp()
    taken = row.on_conflict_do_update(
        index_elements=[ChoreRow.name], set_=mine, where=due & free
    ).returning(ChoreRow.name)
    return session.scalar(taken) is not None


def keep(session: Session, name: str, owner: str) -> bool:
    """Say that the owner is still at it; return False if somebody else is by now."""
    held = update(ChoreRow).where(ChoreRow.name == name, ChoreRow.owner == owner)
    kept = held.values(until=seconds_from_now(HELD_SECONDS)).returning(ChoreRow.name)
    return session.scalar(kept) is not None


def done(session: Session, name: str, owner: str) -> None:
    """Say that it is done, if it is still the owner's."""
    now = func.clock_timestamp()
    held = update(ChoreRow).where(ChoreRow.name == name, ChoreRow.owner == owner)
    session.execute(held.values(done_at=now, until=now))
