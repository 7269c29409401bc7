"""The schema's history leads to the tables, and back."""

import re

from alembic import command
from sqlalchemy import Engine, event, inspect

import migrations
from app.settings import Database
from app.store import schema
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


def test_the_program_needs_the_newest_tables_that_it_ships() -> None:
    assert migrations.head() == schema.NEEDED


def test_upgrading_twice_changes_nothing(database: str) -> None:
    before = _tables(Database(url=database))
    migrations.upgrade(Database(url=database))
    assert _tables(Database(url=database)) == before


SHIPPED = [f"{number:04}" for number in range(1, int(migrations.head()) + 1)]


def test_migrations_only_add_and_lock_no_table_for_long(empty_database: str) -> None:
    """As docs/operations.md promises: old processes go on beside the newer tables."""
    settings = Database(url=empty_database)
    migrations.upgrade(settings, SHIPPED[0])
    for revision in SHIPPED[1:]:
        statements = _statements(settings, revision)
        made = {match[1] for each in statements if (match := _CREATED.match(each))}
        for statement in statements:
            assert not _TAKES_AWAY.search(statement), (revision, statement)
            if (index := _INDEXED.match(statement)) and index[2] not in made:
                assert index[1], f"{revision} builds an index with the table locked: {statement}"
            if "ADD COLUMN" in statement and "NOT NULL" in statement:
                assert "DEFAULT" in statement, (revision, statement)


_CREATED = re.compile(r"CREATE TABLE (\w+)")
_INDEXED = re.compile(r"CREATE (?:UNIQUE )?INDEX (CONCURRENTLY )?\w+ ON (\w+)")
_TAKES_AWAY = re.compile(
    r"DROP (TABLE|COLUMN|CONSTRAINT)|ALTER COLUMN (?!\w+ DROP NOT NULL)|RENAME|ADD CONSTRAINT"
)


def _statements(settings: Database, revision: str) -> list[str]:
    """Upgrade to a revision; return what was executed."""
    said: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        said.append(" ".join(statement.split()))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        migrations.upgrade(settings, revision)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return said


def _tables(settings: Database) -> set[str]:
    engine = connect(settings)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()
