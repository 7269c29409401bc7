"""A worker with real stores and the real engine, and a model for it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.settings import Settings
from app.store.tables import ModelRow
from tests.e2e.service import small_model
from tests.workers.lifecycle.jobs import ATTEMPTS, upload
from tests.workers.worker import worker_with
from workers.runs.inspection import inspect_next
from workers.worker import Sandboxes, Worker

PACED = "tests.e2e.engine:main"


@pytest.fixture
def settings(database: str, redis_url: str, storage_url: str) -> Settings:
    return Settings.model_validate(
        {
            "database": {"url": database},
            "broker": {"url": redis_url},
            "storage": {"url": storage_url},
            "lease": {"seconds": 5, "renew_seconds": 0.2, "attempts": ATTEMPTS},
            "engine": {"threads": 1, "memory_bytes": 1024**3, "directory_bytes": 64 * 1024**2},
        }
    )


@pytest.fixture(scope="package")
def sandboxes() -> Iterator[Sandboxes]:
    """Fork servers, which are warm after the first run."""
    made = Sandboxes(Settings.model_validate({"engine": {"threads": 1}}), "cpu")
    yield made
    made.close()


@pytest.fixture
def worker(settings: Settings, sandboxes: Sandboxes, tmp_path: Path) -> Iterator[Worker]:
    """A worker with the real engine."""
    directory = tmp_path / "worker"
    directory.mkdir()
    with worker_with(settings, directory, "jobs", sandboxes) as made:
        yield made
        assert list(directory.iterdir()) == [], "no place outlives its run"


@pytest.fixture
def paced(worker: Worker) -> Worker:
    """The same worker with the engine whose pace and fate a test chooses."""
    return replace(worker, entry=PACED)


@pytest.fixture
def model(worker: Worker, tmp_path: Path) -> str:
    """A model that is ready: uploaded, and inspected by the real engine."""
    model_id = upload(worker, tmp_path, small_model())
    assert inspect_next(worker)
    with worker.sessions() as session:
        assert session.get_one(ModelRow, model_id).status == "ready"
    return model_id
