"""A process that pauses within a transaction."""

import pytest
from sqlalchemy import Engine, text

from app.store.session import AWAY


def keeps_locks_for_a_while_alone(engine: Engine) -> None:
    """Check that another connection gets the lock of one that pauses, which is ended meanwhile."""
    paused = engine.connect()
    assert paused.scalar(text("SHOW idle_in_transaction_session_timeout")) == "20s"
    paused.execute(text("SET LOCAL idle_in_transaction_session_timeout = '100ms'"))
    paused.execute(text("SELECT pg_advisory_xact_lock(1)"))
    with engine.begin() as other:
        other.execute(text("SELECT pg_advisory_xact_lock(1)"))
    with pytest.raises(AWAY):
        paused.execute(text("SELECT 1"))
    paused.close()
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
