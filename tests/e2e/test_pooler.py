"""Behind PgBouncer in transaction mode no session is ours: bounds hold, and jobs are done."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError

from app.local import postgres
from app.local.server import Server, socket_directory
from app.settings import Database
from app.store.session import connect
from tests.e2e.service import Service, small_model
from tests.pausing import keeps_locks_for_a_while_alone

CONFIGURATION = """
[databases]
* = host={behind}
[pgbouncer]
listen_port = 6432
unix_socket_dir = {directory}
auth_type = trust
auth_file = {directory}/users
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
"""


def url_of(pooler: Server, server: URL) -> str:
    """Return how the database is reached by way of the pooler."""
    host = str(pooler.directory)
    return server.set(query={"host": host, "port": "6432"}).render_as_string(hide_password=False)


def pooler(directory: Path, server: URL) -> Server:
    """Return a PgBouncer before a server; nothing is started yet."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("there is no pgbouncer on this machine")
    directory = socket_directory(directory)
    configuration = directory / "pgbouncer.ini"
    configuration.write_text(CONFIGURATION.format(behind=server.query["host"], directory=directory))
    (directory / "users").write_text('"planish" ""\n')

    def answers() -> bool:
        try:
            psycopg.connect(url_of(made, server)).close()
        except psycopg.OperationalError:
            return False
        return True

    made = Server(
        name="PgBouncer",
        argv=[program, str(configuration)],
        directory=directory,
        answers=answers,
        unprivileged=True,
    )
    return made


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Service]]:
    """A whole service whose processes reach their database through the pooler alone."""
    data = tmp_path_factory.mktemp("pooled")
    server = make_url(postgres.server(data).url)
    (data / "pooler").mkdir()
    between = pooler(data / "pooler", server)
    url = url_of(between, server)
    service = Service(data, DATABASE_URL=url, DATABASE_POOLED="true")
    try:
        service.postgres.start()
        between.start()
        service.start()
        yield url, service
        service.assert_discreet()
    finally:
        service.stop()
        between.stop()


def test_what_needs_a_session_is_refused_by_the_pooler(pooled: tuple[str, Service]) -> None:
    """So the setting is needed; a later PgBouncer that takes it makes this test fail."""
    engine = connect(Database(url=pooled[0]))
    with pytest.raises(OperationalError, match="unsupported startup parameter"):
        engine.connect()
    engine.dispose()


@pytest.mark.parametrize("reading", [False, True])
def test_statements_are_bounded_and_nobody_else_s_are(
    pooled: tuple[str, Service], reading: bool
) -> None:
    engine = connect(Database(url=pooled[0], pooled=True, statement_seconds=0.5), reading=reading)
    for _ in range(12):  # as often as a statement is run before it would be prepared
        with engine.connect() as connection:
            assert connection.scalar(text("SHOW statement_timeout")) == "500ms"
            assert connection.scalar(text("SHOW timezone")) == "UTC"
    with engine.connect() as connection, pytest.raises(OperationalError, match="statement timeout"):
        connection.execute(text("SELECT pg_sleep(5)"))
    engine.dispose()
    with psycopg.connect(pooled[0], autocommit=True) as other:
        [(left,)] = other.execute("SHOW statement_timeout").fetchall()
    assert left == "0"


def test_a_process_that_pauses_within_a_transaction_keeps_no_lock_for_long(
    pooled: tuple[str, Service],
) -> None:
    engine = connect(Database(url=pooled[0], pooled=True))
    keeps_locks_for_a_while_alone(engine)
    engine.dispose()


def test_jobs_are_done_behind_a_pooler(pooled: tuple[str, Service]) -> None:
    _, service = pooled
    model = service.upload(small_model())
    jobs = [service.submit(model, "epochs=2", seed=seed) for seed in range(3)]
    for seed, job in enumerate(jobs):
        assert service.finished(job)["status"] == "succeeded", seed
    assert len(service.http.get("/v1/jobs").json()["items"]) == len(jobs)


def test_migrations_ask_for_the_database_itself(pooled: tuple[str, Service]) -> None:
    done = pooled[1].planish("migrate")
    assert done.returncode == 1
    assert "DATABASE_POOLED=false" in done.stderr
