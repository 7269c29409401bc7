"""Forget what is old, and delete bytes that nobody refers to."""

from datetime import timedelta
from itertools import islice

from app.blobs import PARTS
from app.store import blob_rows, upkeep
from app.store.session import transaction
from workers.worker import Worker

BATCH = 500
"""Stored digests that are looked up at one time."""


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
    worker.blobs.sweep(timedelta(hours=worker.settings.upload.expire_hours) + grace, PARTS)
    stale = worker.blobs.stale(grace)
    while digests := list(islice(stale, BATCH)):
        with transaction(worker.sessions) as session:
            for sha256 in blob_rows.unknown(session, digests):
                worker.blobs.delete(sha256, unless_younger_than=grace)
