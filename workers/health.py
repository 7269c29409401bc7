"""What a worker process says of itself to its own machine, for a container's health check.

A file in its directory, written anew whenever it has looked for work. No store is asked: that the
database is away is no reason to start workers anew.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ValidationError

from workers.sandbox import directories
from workers.worker import Worker

FILE = "health.json"
STALE_SECONDS = 120.0
"""A process that has not looked for work for so long hangs; it looks every few seconds."""


class Health(BaseModel):
    """How a worker process was when it last looked for work."""

    worker: str
    queue: str
    device: str
    unable: str | None
    """Why it takes no jobs."""
    looked_at: float
    """By the clock that counts from the machine's start."""
    claimed_at: float | None
    """When it last took a job or an upload, by the same clock."""

    def fault(self) -> str | None:
        """Return what is wrong with the process, if anything is."""
        age = time.monotonic() - self.looked_at
        if age > STALE_SECONDS:
            return f"has not looked for work for {age:.0f} s"
        return self.unable


def write(worker: Worker) -> None:
    """Say how this process is."""
    health = Health(
        worker=worker.id,
        queue=worker.queue,
        device=worker.device,
        unable=worker.ability.lacking,
        looked_at=time.monotonic(),
        claimed_at=worker.ability.claimed_at,
    )
    path = worker.directory / FILE
    part = path.with_suffix(".part")
    part.write_text(health.model_dump_json())
    part.replace(path)


def of_processes(parent: Path) -> Iterator[Health]:
    """Yield what the living worker processes with a directory in ``parent`` say of themselves."""
    for root in directories.living(parent):
        try:
            yield Health.model_validate_json((root / FILE).read_bytes())
        except (OSError, ValidationError):
            continue  # it has just started
