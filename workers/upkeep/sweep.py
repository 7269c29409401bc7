"""Removes what killed processes of this machine have left on its disk.

A killed worker leaves the directory of its run, which may hold gigabytes. It may be long until
another process starts here, so every living process looks for such directories. Removing them may
be slow, so this work has a thread of its own.
"""

import structlog

from workers.sandbox import directories
from workers.worker import Worker

log = structlog.get_logger(__name__)


def sweep_dead(worker: Worker) -> None:
    """Remove the directories of dead processes again and again, until this process stops."""
    while not worker.stopping.wait(worker.settings.lease.scan_seconds):
        try:
            directories.sweep(worker.directory.parent)
        except Exception:
            log.exception("a fault of ours")
