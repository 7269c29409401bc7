"""Run migrations under lock and statement timeouts: a busy table delays them, not the service."""

from alembic import context
from sqlalchemy import text

from app.settings import settings
from app.store.session import connect
from app.store.tables import Table

LOCK = 0x506C616E697368
"""An advisory lock, so that two gateways that start together migrate once."""

engine = connect(context.config.attributes.get("database") or settings().database)
with engine.connect() as connection:
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.execute(text("SET statement_timeout = '60s'"))
    connection.commit()
    context.configure(connection=connection, target_metadata=Table.metadata)
    with context.begin_transaction():
        connection.execute(text("SET LOCAL lock_timeout = '60s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        context.run_migrations()
engine.dispose()
