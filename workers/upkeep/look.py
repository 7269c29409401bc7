"""Scans the table for waiting work, every few seconds, in every worker.

Nudges may be lost, workers may die, Redis may be down: the table has everything. A process with a
free slot takes waiting work by itself, and every process takes back the work of silent workers.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import structlog

from app.reap import Reaper, pause
from app.store import counters, workers
from app.store.session import AWAY, first_line, transaction
from workers import health
from workers.announce import store_announcement
from workers.search.driver import take_turns
from workers.tasks import work_off
from workers.worker import Worker

log = structlog.get_logger(__name__)


def look(worker: Worker) -> None:
    """Scan the table until the process stops.

    Runs that were started here have ended when the function returns.
    """
    reaper = Reaper(worker.sessions, worker.settings, worker.id)
    with ThreadPoolExecutor(worker.slots.total, thread_name_prefix="run") as pool:
        while not worker.stopping.wait(pause(worker.settings)):
            try:
                _report_alive(worker)
                for _ in range(worker.slots.free):
                    pool.submit(work_off, worker)
                reaper.reap()
                take_turns(worker)
            except AWAY as error:
                reaper.lose_sight()
                log.warning("the table cannot be looked at", error=first_line(error))
            except Exception:
                log.exception("a fault of ours")
            with suppress(
                OSError
            ):  # on a full disk the file grows old, which the health check notices
                health.write(worker)
    with suppress(*AWAY):  # what was counted last is lost with them
        _report_alive(worker)


def _report_alive(worker: Worker) -> None:
    """Report that this worker is alive, and what it did; announce it again if its row is gone."""
    figures = worker.figures.take()
    try:
        with transaction(worker.sessions) as session:
            has_row = workers.note_alive(session, worker.id)
            for name, amounts in figures.items():
                counters.add(session, name, amounts)
    except AWAY:
        worker.figures.add_all(figures)
        raise
    if not has_row:
        store_announcement(worker)
