"""Forget what is old, and delete bytes that nobody refers to: one worker for all, once an hour.

A row and its bytes go in one transaction, one blob at a time: whoever stores the same bytes waits
for that, and for no more. Storage may be slow, so this has a thread of its own.
"""

from datetime import timedelta
from itertools import islice

import structlog

from app.blobs import PARTS
from app.domain.problems import Unavailable
from app.store import blob_rows, chores, upkeep
from app.store.session import AWAY, transaction
from workers.worker import Worker

CHORE = "collect"
EVERY_SECONDS = 3600.0
LOOK_SECONDS = 30.0
"""How often a worker looks whether it is time, and nobody is at it."""
PAGE = 500
"""Digests that are looked up at one time."""

log = structlog.get_logger(__name__)


class _NotOurs(Exception):  # noqa: N818 (it says what happened)
    """Somebody else is at it by now, or this process ends."""


def collect_hourly(worker: Worker) -> None:
    """Collect whenever it is time and nobody else does, until the process stops."""
    while not worker.stopping.wait(LOOK_SECONDS):
        try:
            with transaction(worker.sessions) as session:
                ours = chores.take(session, CHORE, worker.id, EVERY_SECONDS)
            if ours:
                collect(worker)
                with transaction(worker.sessions) as session:
                    chores.done(session, CHORE, worker.id)
        except _NotOurs:
            log.info("collecting ends before its end")
        except (*AWAY, Unavailable) as error:
            log.warning("collecting is put off", error=str(error).partition("\n")[0])
        except Exception:
            log.exception("a fault of ours")


def collect(worker: Worker) -> None:
    """Forget what is old, and delete bytes that nobody refers to; the chore is this worker's.

    Raises:
        Unavailable: The storage does not answer.
    """
    minutes = worker.settings.storage.grace_minutes
    grace = timedelta(minutes=minutes)
    with transaction(worker.sessions) as session:
        upkeep.forget(session, worker.settings.idempotency.hours)
    _collect_unreferenced(worker, minutes)
    worker.blobs.sweep(grace)
    worker.blobs.sweep(timedelta(hours=worker.settings.upload.expire_hours) + grace, PARTS)
    _collect_unknown(worker, grace)


def _collect_unreferenced(worker: Worker, minutes: float) -> None:
    while True:
        _go_on(worker)
        with transaction(worker.sessions) as session:
            page = blob_rows.garbage(session, minutes, PAGE)
        deleted = 0
        for sha256 in page:
            with transaction(worker.sessions) as session:
                if blob_rows.forget(session, sha256, minutes):
                    worker.blobs.delete(sha256)
                    deleted += 1
            _go_on(worker)
        if not deleted:
            return


def _collect_unknown(worker: Worker, grace: timedelta) -> None:
    """Delete bytes that have no row: a crash came between the two."""
    stale = worker.blobs.stale(grace)
    while page := list(islice(stale, PAGE)):
        _go_on(worker)
        with transaction(worker.sessions) as session:
            unknown = blob_rows.unknown(session, page)
        for sha256 in unknown:
            with transaction(worker.sessions) as session:
                if blob_rows.forget_unknown(session, sha256):
                    worker.blobs.delete(sha256, unless_younger_than=grace)


def _go_on(worker: Worker) -> None:
    with transaction(worker.sessions) as session:
        ours = chores.keep(session, CHORE, worker.id)
    if not ours or worker.stopping.is_set():
        raise _NotOurs
