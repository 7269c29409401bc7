"""What every worker does by itself, every few seconds: look at the table for what waits.

Nudges may be lost, workers may die, Redis may be away: the table has it all. A process with a free
slot takes what waits by itself, and each takes back what silent workers held.
"""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import structlog

from app.store import workers
from app.store.session import AWAY, transaction
from workers import health
from workers.announce import store_announcement
from workers.tasks import work_off
from workers.upkeep.reap import reap
from workers.upkeep.sight import Sight
from workers.worker import Worker

log = structlog.get_logger(__name__)


def look(worker: Worker) -> None:
    """Look at the table until the process stops.

    Runs that were begun here are over when this returns.
    """
    every = worker.settings.lease.scan_seconds
    sight = Sight(max(worker.settings.lease.seconds, 2 * every))
    with ThreadPoolExecutor(worker.slots.total, thread_name_prefix="run") as pool:
        while not worker.stopping.wait(every * random.uniform(0.75, 1.25)):  # noqa: S311 (spreads)
            try:
                _say_alive(worker)
                for _ in range(worker.slots.free):
                    pool.submit(work_off, worker)
                reap(worker, sight)
            except AWAY as error:
                sight.lose()
                log.warning("the table cannot be looked at", error=str(error).partition("\n")[0])
            except Exception:
                log.exception("a fault of ours")
            with suppress(OSError):  # a full disk: the file grows old, which says as much
                health.write(worker)


def _say_alive(worker: Worker) -> None:
    """Say that this worker lives, and all that it said at its start if that was forgotten."""
    with transaction(worker.sessions) as session:
        known = workers.seen(session, worker.id)
    if not known:
        store_announcement(worker)
