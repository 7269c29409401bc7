"""The schema's history leads to the tables, and back."""

from alembic import command
from sqlalchemy import inspect

import migrations
from app.settings import Database
from app.store.session import connect


def test_up_down_and_up_again_leaves_the_same_tables(empty_database: str) -> None:
    settings = Database(url=empty_database)
    migrations.upgrade(settings)
    first = _tables(settings)
    migrations.downgrade(settings, "base")
    assert _tables(settings) == {"alembic_version"}
    migrations.upgrade(settings)
    assert _tables(settings) == first


def test_the_tables_have_not_drifted_from_the_migrations(database: str) -> None:
    command.check(migrations.configuration(Database(url=database)))


def test_upgrading_twice_changes_nothing(database: str) -> None:
    before = _tables(Database(url=database))
    migrations.upgrade(Database(url=database))
    assert _tables(Database(url=database)) == before


def _tables(settings: Database) -> set[str]:
    engine = connect(settings)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()
