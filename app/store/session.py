"""Sessions on PostgreSQL: one engine a process, short transactions."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from select import POLLIN, poll
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from app.settings import Database

Sessions = sessionmaker[Session]

AWAY = (OperationalError, InterfaceError, PoolTimeout)
"""Errors of a database that is down, restarting or too slow; the caller should retry later."""


def connect(database: Database, *, reading: bool = False) -> Engine:
    """Return an engine for ``database.url`` that survives restarts of the server.

    Connections that the server closed are replaced before use. The server bounds statements in
    time, and pauses within a transaction: a process that is frozen there keeps its locks no longer.

    Args:
        database: the settings of the database. Behind a pooler each transaction sets its own
            bounds, which takes one more round trip: a session is shared there, so nothing can be
            set for it, and statements cannot be prepared.
        reading: autocommit, for callers that only read. Each statement sees what was committed
            before it; without transactions half of the round trips are saved.
    """
    url = make_url(database.url).set(drivername="postgresql+psycopg")
    bounds = {
        "statement_timeout": f"{int(database.statement_seconds * 1000)}",
        "lock_timeout": "10s",
        "idle_in_transaction_session_timeout": "20s",
        "timezone": "UTC",
    }
    session: dict[str, Any] = {"options": " ".join(f"-c {name}={bounds[name]}" for name in bounds)}
    if database.pooled:
        session = {"prepare_threshold": None}
    engine = create_engine(
        url,
        pool_size=database.pool,
        max_overflow=0,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT" if reading and not database.pooled else "READ COMMITTED",
        pool_timeout=10,
        connect_args={
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            **session,
        },
    )
    event.listen(engine, "checkout", _require_open)
    event.listen(engine, "handle_error", _as_away)
    if database.pooled:
        event.listen(engine, "begin", partial(_bound, bounds=bounds))
    return engine


def _bound(connection: Connection, *, bounds: Mapping[str, str]) -> None:
    """Set the bounds of the transaction that begins."""
    settings = (func.set_config(name, value, True) for name, value in bounds.items())
    connection.execute(select(*settings))


def _as_away(context: ExceptionContext) -> OperationalError | None:
    """Return an operational error for a connection that the server ended, whatever it says."""
    error = context.sqlalchemy_exception
    if not context.is_disconnect or not isinstance(error, DBAPIError) or isinstance(error, AWAY):
        return None
    return OperationalError(
        error.statement,
        None,
        context.original_exception,
        hide_parameters=True,
        connection_invalidated=True,
    )


def _require_open(connection: psycopg.Connection, record: ConnectionPoolEntry, *_: object) -> None:
    """Refuse a connection of the pool with unread data: the server has closed it.

    A ping of the server (``pool_pre_ping``) would be one more round trip each time. A connection
    that was just made is not refused: after the second one SQLAlchemy would raise what is no error
    of the database, and if it is closed already, its first statement says so.
    """
    is_new = "used" not in record.info  # which is emptied with each new connection
    record.info["used"] = True
    if is_new:
        return
    goodbye = poll()
    goodbye.register(connection.fileno(), POLLIN)
    if goodbye.poll(0):
        raise DisconnectionError("the server has closed the connection")


def sessions(engine: Engine) -> Sessions:
    """Return a factory of sessions whose rows stay readable after commit."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(factory: Sessions) -> Iterator[Session]:
    """Run a block in a transaction: commit it, or roll it back after an exception."""
    with factory.begin() as session:
        yield session


def first_line(error: Exception) -> str:
    """Return what an error says, for the log; SQLAlchemy adds lines about the statement."""
    return str(error).partition("\n")[0]
