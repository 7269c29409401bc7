"""Fault 16: old and new processes together on a database that is migrated meanwhile."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import make_url

import migrations
from app.settings import Database
from tests import secrecy
from tests.e2e.service import Service
from tests.planish.test_serve import planish
from tests.waiting import eventually

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "{head}"


def upgrade():
    op.add_column("jobs", sa.Column("colour", sa.Text(), nullable=True))
    with op.get_context().autocommit_block():
        op.create_index("ix_jobs_colour", "jobs", ["colour"], postgresql_concurrently=True)


def downgrade():
    with op.get_context().autocommit_block():
        op.drop_index("ix_jobs_colour", postgresql_concurrently=True)
    op.drop_column("jobs", "colour")
"""


@pytest.fixture
def newer(service: Service, tmp_path: Path) -> Iterator[Config]:
    """The migrations of a version that is newer than the processes that run."""
    (tmp_path / "next.py").write_text(NEXT.format(head=migrations.head()))
    configuration = migrations.configuration(Database(url=service.postgres.url))
    ours = Path(migrations.__file__).parent / "versions"
    configuration.set_main_option("path_separator", "os")
    configuration.set_main_option("version_locations", os.pathsep.join(map(str, (ours, tmp_path))))
    yield configuration
    command.downgrade(configuration, migrations.head())


@contextmanager
def _beside(work: threading.Thread) -> Iterator[None]:
    work.start()
    yield
    work.join(60)
    assert not work.is_alive()


def _revision(service: Service) -> str:
    ((found,),) = service.rows("SELECT version_num FROM alembic_version")
    return str(found)


def _assert_all_is_well(service: Service, model: str, running: str) -> None:
    """Assert that what runs goes on, undisturbed, and that what comes is done."""
    assert service.http.get("/readyz").json()["status"] == "ready"
    for job_id, epochs in ((running, 20), (service.submit(model, "epochs=2"), 2)):
        assert service.assert_undisturbed(job_id, [epochs])["attempts"] == 1


def test_16_old_processes_work_on_newer_tables_and_on_tables_taken_back(
    service: Service, model: str, newer: Config
) -> None:
    running = service.submit(model, "epochs=20")
    service.running(running)
    command.upgrade(newer, "heads")
    assert _revision(service) == "next"
    _assert_all_is_well(service, model, running)
    for server in (service.gateway, service.jobs):
        service.restart(server)
    service.await_worker(service.jobs)
    running = service.submit(model, "epochs=20")
    service.running(running)
    command.downgrade(newer, migrations.head())
    assert _revision(service) == migrations.head()
    _assert_all_is_well(service, model, running)


def test_16_a_migration_that_is_run_again_disturbs_nobody(service: Service, model: str) -> None:
    running = service.submit(model, "epochs=20")
    service.running(running)
    for _ in range(2):
        done = planish("migrate", **_fleet(service, service.postgres.url))
        assert done.returncode == 0, done.stderr
    _assert_all_is_well(service, model, running)


def test_16_a_migration_waits_for_a_busy_table_without_holding_up_the_service(
    service: Service, model: str, newer: Config
) -> None:
    """Somebody reads the table for seconds: others behind the migration are let pass."""
    upgrading = threading.Thread(target=command.upgrade, args=(newer, "heads"))
    with psycopg.connect(service.postgres.url) as reader:
        reader.execute("SELECT count(*) FROM jobs")
        with _beside(upgrading):
            eventually(lambda: _waits_for_a_lock(service), what="the migration's waiting")
            running = service.submit(model, "epochs=20")
            _assert_all_is_well(service, model, running)
            assert _revision(service) == migrations.head(), "it still waits"
            reader.rollback()
    assert _revision(service) == "next"


def test_16_two_versions_that_migrate_at_once_leave_the_newer_tables(
    service: Service, newer: Config
) -> None:
    with _beside(threading.Thread(target=command.upgrade, args=(newer, "heads"))):
        done = planish("migrate", **_fleet(service, service.postgres.url))
    assert done.returncode == 0, done.stderr
    again = planish("migrate", **_fleet(service, service.postgres.url))
    assert again.returncode == 0, again.stderr
    assert _revision(service) == "next"


def test_16_processes_without_their_tables_say_what_to_do(service: Service) -> None:
    service.rows("CREATE DATABASE fresh")
    url = make_url(service.postgres.url).set(database="fresh").render_as_string(False)
    environment = _fleet(service, url)
    for words in (
        ["-m", "workers.celery", "--queue", "jobs"],
        ["-m", "planish", "serve", "--port", "0"],
    ):
        done = subprocess.run(
            [sys.executable, *words],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert "run 'planish migrate'" in done.stderr
        assert secrecy.plain(done.stderr) == [], "a fleet's logs are JSON"
    assert planish("migrate", **environment).returncode == 0
    service.rows("DROP DATABASE fresh WITH (FORCE)")


def _fleet(service: Service, database: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database,
        "BROKER_URL": service.redis.url,
        "STORAGE_URL": (service.directory.parent / "storage").as_uri(),
    }


def _waits_for_a_lock(service: Service) -> bool:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'colour'"
    return bool(service.rows(waiting))
