"""Writes and reads the health of worker processes, for a container's health check.

Each process has a file in its directory, which it rewrites whenever it has looked for work. The
check asks no store, because an outage of the database is no reason to restart workers.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ValidationError

from workers.sandbox import directories
from workers.worker import Worker

FILE = "health.json"
STALE_SECONDS = 120.0
"""A process that has not looked for work for this time hangs; normally it looks every few
seconds."""


class Health(BaseModel):
    """The state of a worker process when it last looked for work."""

    worker: str
    queue: str
    device: str
    unable: str | None
    """The reason if it takes no jobs."""
    looked_at: float
    """When it last looked for work, by the clock since the machine's start."""
    claimed_at: float | None
    """When it last took a job or an upload, by the same clock."""

    def fault(self) -> str | None:
        """Return the fault of the process, if it has one."""
        age = time.monotonic() - self.looked_at
        if age > STALE_SECONDS:
            return f"has not looked for work for {age:.0f} s"
        return self.unable


def write(worker: Worker) -> None:
    """Write the health of this process."""
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
    """Yield the health of the living worker processes with a directory in ``parent``."""
    for root in directories.living(parent):
        try:
            yield Health.model_validate_json((root / FILE).read_bytes())
        except (OSError, ValidationError):
            continue  # the process has just started
