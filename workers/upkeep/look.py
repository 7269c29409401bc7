"""What every worker does by itself, every few seconds: look at the table for what waits.

Nudges may be lost, workers may die, Redis may be away: the table has it all. A process with a free
slot takes what waits by itself.
"""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import structlog

from app import nudge
from app.store import inspections, runs, workers
from app.store.session import AWAY, transaction
from workers import health
from workers.tasks import work
from workers.upkeep.collect import collect
from workers.upkeep.reap import reap
from workers.upkeep.sight import Sight
from workers.worker import Worker

UPKEEP_SECONDS = 60.0
"""How often bytes that nobody refers to are looked for."""

log = structlog.get_logger(__name__)


def look(worker: Worker) -> None:
    """Look at the table until the process stops; the light queue's processes also do upkeep.

    Runs that were begun here are over when this returns.
    """
    every = worker.settings.lease.scan_seconds
    rounds_between = max(1, round(UPKEEP_SECONDS / every))
    sight = Sight(max(worker.settings.lease.seconds, 2 * every))
    count = random.randrange(rounds_between)  # noqa: S311 (spreads workers, hides nothing)
    with ThreadPoolExecutor(worker.slots.total, thread_name_prefix="found") as pool:
        while not worker.stopping.wait(every * random.uniform(0.75, 1.25)):  # noqa: S311 (the same)
            count += 1
            try:
                for subject, row_id in look_once(worker):
                    pool.submit(_run, worker, subject, row_id)
                if worker.queue == "light":
                    reap(worker, sight)
                    if count % rounds_between == 0:
                        collect(worker)
            except AWAY as error:
                sight.lose()
                log.warning("the table cannot be looked at", error=str(error).partition("\n")[0])
            except Exception:
                log.exception("a fault of ours")
            with suppress(OSError):  # a full disk: the file grows old, which says as much
                health.write(worker)


def look_once(worker: Worker) -> list[tuple[nudge.Subject, str]]:
    """Say that this worker lives; return what waits and could run here now."""
    free = worker.slots.free if worker.ability.lacking is None else 0
    waiting: list[tuple[nudge.Subject, str]] = []
    with transaction(worker.sessions) as session:
        workers.seen(session, worker.id)
        if free > 0 and worker.queue == "jobs":
            waiting += [("job", each) for each in runs.next_waiting(session, free)]
        elif free > 0:
            for subject, table in inspections.TABLES.items():
                uploads = inspections.next_waiting(session, table, free)
                waiting += [(subject, each) for each in uploads]
    return waiting


def _run(worker: Worker, subject: nudge.Subject, row_id: str) -> None:
    try:
        with worker.slots.one() as taken:
            if taken:
                work(worker, subject, row_id)
    except AWAY as error:
        log.warning("put off", id=row_id, error=str(error).partition("\n")[0])
    except Exception:
        log.exception("a fault of ours", id=row_id)
