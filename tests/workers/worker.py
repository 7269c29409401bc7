"""A worker in this process."""

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
from workers.worker import Queue, Sandboxes, Slots, Worker

CAPABILITIES = Capabilities.model_validate(
    {"machine": MACHINE, "targets": [], "versions": {"onnxruntime": "1.0"}}
)
"""Of a worker that has announced its machine, and delivers nothing."""


def settings_of(database: str, redis_url: str, storage_url: str) -> Settings:
    """Return settings with these stores; all else is as it is by default."""
    places = {"database": database, "broker": redis_url, "storage": storage_url}
    return Settings.model_validate({name: {"url": url} for name, url in places.items()})


@contextmanager
def worker_with(
    settings: Settings,
    directory: Path,
    queue: Queue = "light",
    sandboxes: Sandboxes | None = None,
) -> Iterator[Worker]:
    """Make a worker in this process, with its stores and the real engine.

    Args:
        settings: of the worker.
        directory: in which its runs have their places.
        queue: whose work it takes.
        sandboxes: that outlive it; without any it has its own.
    """
    engine = connect(settings.database)
    used = sandboxes or Sandboxes(settings, "cpu")
    yield Worker(
        id=ids.new("wrk"),
        queue=queue,
        device="cpu",
        settings=settings,
        sessions=sessions(engine),
        blobs=Blobs.open(settings.storage.url),
        sandboxes=used,
        slots=Slots(1),
        directory=directory,
    )
    if sandboxes is None:
        used.close()
    for thread in threading.enumerate():
        if thread.name == "renewal":  # it may still hold a connection
            thread.join()
    engine.dispose()
