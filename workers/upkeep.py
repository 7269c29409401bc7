"""What a worker does by itself, every few seconds: look at the table, and put right what time did.

Nudges may be lost, workers may die, Redis may be away: the table has it all. A process with a free
slot takes what waits by itself.
"""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import islice

import structlog

from app import nudge
from app.store import blob_rows, inspections, leases, runs, upkeep, workers
from app.store.session import AWAY, transaction
from app.store.tables import DatasetRow, ModelRow
from workers.sight import Sight
from workers.tasks import work
from workers.worker import Worker

UPKEEP_SECONDS = 60.0
"""How often bytes that nobody refers to are looked for."""

BATCH = 500
"""Stored digests that are looked up at one time."""

_UPLOADS: tuple[tuple[nudge.Subject, type[ModelRow] | type[DatasetRow]], ...] = (
    ("model", ModelRow),
    ("dataset", DatasetRow),
)

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


def look_once(worker: Worker) -> list[tuple[nudge.Subject, str]]:
    """Say that this worker lives; return what waits and could run here now."""
    free = worker.slots.free
    waiting: list[tuple[nudge.Subject, str]] = []
    with transaction(worker.sessions) as session:
        workers.seen(session, worker.id)
        if free > 0 and worker.queue == "jobs":
            waiting += [("job", each) for each in runs.next_waiting(session, free)]
        elif free > 0:
            for subject, table in _UPLOADS:
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


def reap(worker: Worker, sight: Sight) -> None:
    """End what waited too long, and take back what silent workers held.

    They are silent if they could have renewed: the database has been seen for a lease's time.
    """
    lease = worker.settings.lease
    with transaction(worker.sessions) as session:
        upkeep.fail_overdue(session)
        if sight.span(leases.now(session)) < lease.seconds:
            return
    again: list[tuple[nudge.Subject, str]] = []
    with transaction(worker.sessions) as session:
        again += [("job", each) for each in upkeep.reap_jobs(session, lease.attempts)]
    for subject, table in _UPLOADS:
        with transaction(worker.sessions) as session:
            taken = upkeep.reap_inspections(session, table, lease.attempts)
            again += [(subject, each) for each in taken]
    for subject, row_id in again:
        nudge.send(worker.settings, subject, row_id)


def collect(worker: Worker) -> None:
    """Forget what is old, and delete bytes that nobody refers to.

    Rows stay locked until their bytes are gone; an upload of the same bytes waits for that.
    """
    minutes = worker.settings.storage.grace_minutes
    grace = timedelta(minutes=minutes)
    with transaction(worker.sessions) as session:
        upkeep.forget(session, worker.settings.idempotency.hours)
    with transaction(worker.sessions) as session:
        for sha256 in blob_rows.collect(session, minutes):
            worker.blobs.delete(sha256)
    worker.blobs.sweep(grace)
    stale = worker.blobs.stale(grace)
    while digests := list(islice(stale, BATCH)):
        with transaction(worker.sessions) as session:
            for sha256 in blob_rows.unknown(session, digests):
                worker.blobs.delete(sha256, unless_younger_than=grace)
