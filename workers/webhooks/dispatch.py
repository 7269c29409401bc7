"""Sends due deliveries concurrently, so that a hanging receiver delays no other.

Calls have threads of their own, so that inspections, which share the light queue, never wait for a
receiver.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import structlog

from app.settings import Settings
from app.store import delivery_turns
from app.store.session import AWAY, Sessions, first_line, transaction
from workers.webhooks.delivery import deliver

CONCURRENCY = 16
"""Calls at one time in one process."""

log = structlog.get_logger(__name__)


def dispatch(
    sessions: Sessions,
    settings: Settings,
    owner: str,
    wake: threading.Event,
    stopping: threading.Event,
) -> None:
    """Attempt deliveries until ``stopping`` is set, then wait for the calls in progress.

    Args:
        sessions: Sessions of the job store.
        settings: Settings of ``deliver``, and how often to scan the table.
        owner: The worker's id.
        wake: Set to scan the table now; set it after ``stopping`` too.
        stopping: Set to stop.
    """
    calls: dict[str, Future[None]] = {}

    def call(delivery_id: str) -> None:
        try:
            deliver(sessions, settings, delivery_id, owner)
        except AWAY as error:
            log.warning("delivery put off", id=delivery_id, error=first_line(error))
        except Exception:
            log.exception("a fault of ours", delivery=delivery_id)

    with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="deliver") as pool:
        while not stopping.is_set():
            calls = {due_id: future for due_id, future in calls.items() if not future.done()}
            for due_id in _due(sessions, settings.share.weights):
                if due_id not in calls and len(calls) < CONCURRENCY:
                    calls[due_id] = pool.submit(call, due_id)
                    calls[due_id].add_done_callback(lambda _: wake.set())
            wake.wait(settings.lease.scan_seconds)
            wake.clear()


def _due(sessions: Sessions, weights: Mapping[str, float]) -> list[str]:
    try:
        with transaction(sessions) as session:
            return list(delivery_turns.due(session, CONCURRENCY, weights))
    except AWAY as error:
        log.warning("the table cannot be looked at", error=first_line(error))
    except Exception:
        log.exception("a fault of ours")
    return []
