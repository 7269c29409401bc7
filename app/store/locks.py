"""Locks by name: whoever takes one waits until the transaction that holds it has ended."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session


def take(session: Session, name: str) -> None:
    """Take the lock of this name, and hold it until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
