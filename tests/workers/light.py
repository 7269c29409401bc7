"""A worker for short work, in this process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.blobs import Blobs
from app.domain import ids
from app.domain.workers import Capabilities
from app.settings import Settings
from app.store.session import connect, sessions
from tests.app.service import MACHINE
from workers.worker import Sandboxes, Slots, Worker

CAPABILITIES = Capabilities.model_validate(
    {"machine": MACHINE, "targets": [], "versions": {"onnxruntime": "1.0"}}
)
"""Of a worker that has announced its machine, and delivers nothing."""


def settings_of(database: str, redis_url: str, storage_url: str) -> Settings:
    """Return settings with these stores; all else is as it is by default."""
    places = {"database": database, "broker": redis_url, "storage": storage_url}
    return Settings.model_validate({name: {"url": url} for name, url in places.items()})


@contextmanager
def worker_with(settings: Settings, tmp_path: Path) -> Iterator[Worker]:
    engine = connect(settings.database)
    sandboxes = Sandboxes(settings, "cpu")
    yield Worker(
        id=ids.new("wrk"),
        queue="light",
        device="cpu",
        settings=settings,
        sessions=sessions(engine),
        blobs=Blobs.open(settings.storage.url),
        sandboxes=sandboxes,
        slots=Slots(1),
        directory=tmp_path,
    )
    sandboxes.close()
    for thread in threading.enumerate():
        if thread.name == "renewal":  # it may still hold a connection
            thread.join()
    engine.dispose()
