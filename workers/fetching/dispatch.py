"""Fetches what waits, several files at one time.

Fetches have threads of their own, so that inspections, which share the light queue, never wait for
a host.
"""

from concurrent.futures import ThreadPoolExecutor

import structlog

from app.store.session import AWAY, first_line
from workers.fetching.fetch import fetch_next
from workers.worker import Slots, Worker

CONCURRENCY = 8
"""Fetches at one time in one process."""

log = structlog.get_logger(__name__)


def fetch_due(worker: Worker) -> None:
    """Fetch until the worker stops; what is in progress then is given back."""
    slots = Slots(CONCURRENCY)
    with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="fetch") as pool:
        while not worker.stopping.is_set():
            worker.fetch_due.clear()
            if slots.free:
                pool.submit(_drain, worker, slots)
            worker.fetch_due.wait(worker.settings.lease.scan_seconds)


def _drain(worker: Worker, slots: Slots) -> None:
    """Fetch one file after the other until none waits."""
    with slots.take() as has_slot:
        try:
            while has_slot and not worker.stopping.is_set() and fetch_next(worker):
                pass
        except AWAY as error:
            log.warning("fetches put off", error=first_line(error))
        except Exception:
            log.exception("a fault of ours")
