"""Sessions on PostgreSQL: one engine a process, short transactions."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from app.settings import Database

Sessions = sessionmaker[Session]

AWAY = (OperationalError, InterfaceError, PoolTimeout)
"""What is raised when the database is away, restarts or is too slow: try again later."""


def connect(database: Database) -> Engine:
    """Return an engine for ``database.url`` that survives restarts of the server.

    Connections are tested before use, and statements are bounded in time by the server.
    """
    url = make_url(database.url).set(drivername="postgresql+psycopg")
    return create_engine(
        url,
        pool_size=database.pool,
        max_overflow=0,
        pool_pre_ping=True,
        pool_timeout=10,
        connect_args={
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "options": f"-c statement_timeout={int(database.statement_seconds * 1000)}"
            " -c timezone=UTC -c lock_timeout=10s",
        },
    )


def sessions(engine: Engine) -> Sessions:
    """Return a factory of sessions whose rows stay readable after commit."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(factory: Sessions) -> Iterator[Session]:
    """Commit what the block did, or roll all of it back."""
    with factory.begin() as session:
        yield session
