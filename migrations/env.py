"""Run migrations so that a busy table delays them, and they never delay the service.

Whoever waits for a table's lock makes everybody behind them wait: a migration waits for half a
second, lets the others pass, and tries again. Each migration is a transaction of its own.
"""

import time

from alembic import context
from alembic.runtime.migration import MigrationContext
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from app.settings import settings
from app.store.session import connect
from app.store.tables import Table

LOCK = 0x506C616E697368
"""An advisory lock, so that two who start together migrate once."""

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.5


def _alone(connection: Connection) -> None:
    """Wait until nobody else migrates, in no transaction: an index in the making waits for all."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK}):
        connection.rollback()
        if time.monotonic() > until:
            raise TimeoutError("another migration runs for too long")
        time.sleep(PAUSE_SECONDS)
    connection.commit()


def _newer(connection: Connection) -> bool:
    """Whether the tables are a newer version's: then there is nothing to do."""
    found = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in context.script.walk_revisions()}
    connection.rollback()
    return found is not None and found not in known


def _migrate() -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with context.begin_transaction():
                context.run_migrations()
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable) or time.monotonic() > until:
                raise
            time.sleep(PAUSE_SECONDS)
        else:
            return


engine = connect(context.config.attributes.get("database") or settings().database)
with engine.connect() as connection:
    connection.execute(text("SET lock_timeout = '500ms'"))
    connection.execute(text("SET statement_timeout = '60s'"))
    connection.commit()
    _alone(connection)
    context.configure(
        connection=connection, target_metadata=Table.metadata, transaction_per_migration=True
    )
    if not _newer(connection):
        _migrate()
engine.dispose()
