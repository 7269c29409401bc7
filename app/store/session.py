"""Sessions on PostgreSQL: one engine a process, short transactions."""

import select
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from app.settings import Database

Sessions = sessionmaker[Session]

AWAY = (OperationalError, InterfaceError, PoolTimeout)
"""What is raised when the database is away, restarts or is too slow: try again later."""


def connect(database: Database, *, reading: bool = False) -> Engine:
    """Return an engine for ``database.url`` that survives restarts of the server.

    Connections that the server closed are replaced before use, and statements are bounded in time
    by the server.

    Args:
        database: where it is.
        reading: for those who only read. A statement sees what was committed before it, just as in
            a transaction; without one, half of the round trips are saved.
    """
    url = make_url(database.url).set(drivername="postgresql+psycopg")
    engine = create_engine(
        url,
        pool_size=database.pool,
        max_overflow=0,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT" if reading else "READ COMMITTED",
        pool_timeout=10,
        connect_args={
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "options": f"-c statement_timeout={int(database.statement_seconds * 1000)}"
            " -c timezone=UTC -c lock_timeout=10s",
        },
    )
    event.listen(engine, "checkout", _require_open)
    return engine


def _require_open(connection: psycopg.Connection, *_: object) -> None:
    """Refuse a connection that has something to read: the server said goodbye, and is gone.

    A question to the server (``pool_pre_ping``) would be one more round trip each time.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        raise DisconnectionError("the server has closed the connection")


def sessions(engine: Engine) -> Sessions:
    """Return a factory of sessions whose rows stay readable after commit."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(factory: Sessions) -> Iterator[Session]:
    """Commit what the block did, or roll all of it back."""
    with factory.begin() as session:
        yield session
