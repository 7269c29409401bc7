"""Real servers for the whole session, and a fresh migrated database for each test."""

import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql
from sqlalchemy.engine import make_url

import migrations
from app.local import postgres, redis
from app.settings import Database
from app.store.session import Sessions, connect, sessions

settings.register_profile("planish", deadline=None, derandomize=True)
settings.load_profile("planish")
"""A busy machine is no fault of the code, and a test does not depend on luck."""

signal.signal(signal.SIGINT, signal.default_int_handler)
"""What a shell runs in the background ignores Ctrl-C, and the tests of Ctrl-C may be run so."""

_UNSAFE_AND_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_TEMPLATE = "template_migrated"


def _run(postgres_url: str, statement: str, database: str, **more: sql.Composable) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        names = {"database": sql.Identifier(database), **more}
        connection.execute(sql.SQL(statement).format(**names))


def _named(postgres_url: str, database: str) -> str:
    return make_url(postgres_url).set(database=database).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of this session's own; nothing of ours is in this database."""
    with postgres.server(tmp_path_factory.mktemp("data"), _UNSAFE_AND_FAST) as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server of this session's own, in the form that ``BROKER_URL`` has."""
    with redis.server(tmp_path_factory.mktemp("data")) as server:
        yield server.url


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    """The URL of a database without any table, for this test alone."""
    name = f"test_{uuid.uuid4().hex}"
    _run(postgres_url, "CREATE DATABASE {database}", name)
    yield _named(postgres_url, name)
    _run(postgres_url, "DROP DATABASE {database} WITH (FORCE)", name)


@pytest.fixture(scope="session")
def _template(postgres_url: str) -> str:
    """The name of a database that was migrated once, to be copied."""
    _run(postgres_url, "CREATE DATABASE {database}", _TEMPLATE)
    migrations.upgrade(Database(url=_named(postgres_url, _TEMPLATE)))
    return _TEMPLATE


@contextmanager
def _migrated(postgres_url: str, template: str) -> Iterator[str]:
    """Make a migrated, empty database for as long as the block runs."""
    name = f"test_{uuid.uuid4().hex}"
    copy = "CREATE DATABASE {database} TEMPLATE {template} STRATEGY file_copy"
    _run(postgres_url, copy, name, template=sql.Identifier(template))
    yield _named(postgres_url, name)
    _run(postgres_url, "DROP DATABASE {database} WITH (FORCE)", name)


@pytest.fixture
def database(postgres_url: str, _template: str) -> Iterator[str]:
    """The URL of a migrated, empty database, for this test alone."""
    with _migrated(postgres_url, _template) as url:
        yield url


@pytest.fixture(scope="module")
def shared_database(postgres_url: str, _template: str) -> Iterator[str]:
    """The URL of a migrated database for a module whose tests leave it empty."""
    with _migrated(postgres_url, _template) as url:
        yield url


@pytest.fixture
def storage_url(tmp_path: Path) -> str:
    """The URL of an empty storage, for this test alone."""
    return (tmp_path / "storage").as_uri()


@pytest.fixture
def store(database: str) -> Iterator[Sessions]:
    """Sessions on this test's database."""
    engine = connect(Database(url=database))
    yield sessions(engine)
    engine.dispose()
