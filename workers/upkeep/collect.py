"""Deletes old rows and unreferenced blobs: one worker does it for all, once an hour.

Nothing is deleted that was touched since the oldest work began that still goes on, however long it
has stored its files: it may be about to refer to them. A row and its bytes are deleted in one
transaction, one blob at a time, so a caller who stores the same bytes waits only for that one.
Storage may be slow, so this work has a thread of its own.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import islice

import structlog
from sqlalchemy.orm import Session

from app.blobs import PARTS
from app.domain.problems import Unavailable
from app.store import blob_rows, chores, leases, retention
from app.store.session import AWAY, first_line, transaction
from app.store.tables import DatasetRow, ModelRow
from workers.worker import Worker

CHORE = "collect"
EVERY_SECONDS = 3600.0
LOOK_SECONDS = 30.0
"""How often a worker checks whether the work is due and free."""
PAGE = 500
"""Digests that are looked up, or deliveries that are deleted, in one query."""
JOBS = 100
"""Jobs or uploads that are deleted in one transaction, with all that belongs to them."""

log = structlog.get_logger(__name__)


class _ChoreLost(Exception):  # noqa: N818 (it says what happened)
    """Another worker has taken the work over, or this process is stopping."""


def collect_hourly(worker: Worker) -> None:
    """Collect whenever the work is due and no other worker does it, until the process stops."""
    while not worker.stopping.wait(LOOK_SECONDS):
        try:
            with transaction(worker.sessions) as session:
                is_ours = chores.take(session, CHORE, worker.id, EVERY_SECONDS)
            if is_ours:
                collect(worker)
                with transaction(worker.sessions) as session:
                    chores.done(session, CHORE, worker.id)
        except _ChoreLost:
            log.info("collecting ends before its end")
        except (*AWAY, Unavailable) as error:
            log.warning("collecting is put off", error=first_line(error))
        except Exception:
            log.exception("a fault of ours")


def collect(worker: Worker) -> None:
    """Delete old rows and unreferenced blobs; this worker must hold the chore.

    Raises:
        Unavailable: The storage does not answer.
    """
    with transaction(worker.sessions) as session:
        retention.forget_expired(session, worker.settings.idempotency.hours)
    _prune(worker)
    with transaction(worker.sessions) as session:
        quiet_since = blob_rows.quiet_since(session, worker.settings.storage.grace_minutes)
        age = leases.now(session) - quiet_since
    _collect_unreferenced(worker, quiet_since)
    worker.blobs.sweep(age)
    worker.blobs.sweep(timedelta(hours=worker.settings.upload.expire_hours) + age, PARTS)
    _collect_unknown(worker, age)


def _prune(worker: Worker) -> None:
    """Delete rows that are older than they are to be kept, some at a time."""
    kept = worker.settings.retention
    last: retention.Ended | None = None
    while True:
        _require_chore(worker)
        with transaction(worker.sessions) as session:
            last = retention.prune_jobs(session, kept, last, JOBS)
        if last is None:
            break
    rest: tuple[Callable[[Session], int], ...] = (
        lambda session: retention.prune_deliveries(session, kept, PAGE),
        lambda session: retention.prune_uploads(session, kept, ModelRow, JOBS),
        lambda session: retention.prune_uploads(session, kept, DatasetRow, JOBS),
    )
    for portion in rest:
        count = 1
        while count:
            _require_chore(worker)
            with transaction(worker.sessions) as session:
                count = portion(session)


def _collect_unreferenced(worker: Worker, quiet_since: datetime) -> None:
    while True:
        _require_chore(worker)
        with transaction(worker.sessions) as session:
            page = blob_rows.garbage(session, quiet_since, PAGE)
        deleted = 0
        for sha256 in page:
            with transaction(worker.sessions) as session:
                if blob_rows.forget(session, sha256, quiet_since):
                    worker.blobs.delete(sha256)
                    deleted += 1
            _require_chore(worker)
        if not deleted:
            return


def _collect_unknown(worker: Worker, age: timedelta) -> None:
    """Delete blobs without a row, which a crash between the two writes leaves."""
    stale = worker.blobs.stale(age)
    while page := list(islice(stale, PAGE)):
        _require_chore(worker)
        with transaction(worker.sessions) as session:
            unknown = blob_rows.unknown(session, page)
        for sha256 in unknown:
            with transaction(worker.sessions) as session:
                if blob_rows.forget_unknown(session, sha256):
                    worker.blobs.delete(sha256, unless_younger_than=age)


def _require_chore(worker: Worker) -> None:
    with transaction(worker.sessions) as session:
        is_ours = chores.keep(session, CHORE, worker.id)
    if not is_ours or worker.stopping.is_set():
        raise _ChoreLost
