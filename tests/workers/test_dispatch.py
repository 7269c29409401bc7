"""Deliveries go on beside one another: a receiver that hangs holds up nobody else."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.settings import Settings
from app.store import deliveries, delivery_turns
from app.store.session import Sessions
from app.store.tables import DeliveryRow
from tests.receiver import Receiver, receiver
from tests.waiting import eventually
from tests.workers.hooks import LOOPBACK, configured, hook, pending, read
from workers.webhooks.dispatch import dispatch


@pytest.fixture
def hanging() -> Iterator[Receiver]:
    with receiver() as running:
        running.answer = running.hang
        yield running


@pytest.fixture
def target() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@contextmanager
def dispatching(store: Sessions, settings: Settings) -> Iterator[threading.Event]:
    """Run a dispatcher; yield what wakes it."""
    wake, stopping = threading.Event(), threading.Event()
    thread = threading.Thread(target=dispatch, args=(store, settings, "worker", wake, stopping))
    thread.start()
    try:
        yield wake
    finally:
        stopping.set()
        wake.set()
        thread.join()


def test_a_backlog_is_worked_off_without_being_woken(store: Sessions, target: Receiver) -> None:
    webhook_id = hook(store, target.url)
    sent = [pending(store, webhook_id) for _ in range(50)]
    with dispatching(store, configured()):
        eventually(lambda: all(read(store, each).status == "delivered" for each in sent), 20)
    assert len(target.calls) == len(sent)


def test_a_nudge_is_followed_at_once(store: Sessions, target: Receiver) -> None:
    webhook_id = hook(store, target.url)
    with dispatching(store, configured(scan=60)) as wake:
        first = pending(store, webhook_id)
        wake.set()
        eventually(lambda: read(store, first).status == "delivered", 20)


def test_a_fault_in_a_look_at_the_table_is_not_the_last_look(
    store: Sessions, target: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = pending(store, hook(store, target.url))
    due, faults = delivery_turns.due, iter([RuntimeError("once")])

    def faulty(*words: Any) -> Any:
        for fault in faults:
            raise fault
        return due(*words)

    monkeypatch.setattr(delivery_turns, "due", faulty)
    with dispatching(store, configured()):
        eventually(lambda: read(store, sent).status == "delivered", 20)


def test_receivers_that_hang_hold_up_nobody_else(
    store: Sessions, hanging: Receiver, target: Receiver
) -> None:
    """A backlog to one webhook takes a few of the calls at most, however long they take."""
    stuck = hook(store, hanging.url)
    for _ in range(40):
        pending(store, stuck)
    with dispatching(store, configured(timeout=60)) as wake:
        for _ in range(delivery_turns.DUE_PER_WEBHOOK):
            assert hanging.arrived.acquire(timeout=60)
        last = pending(store, hook(store, target.url))
        wake.set()
        # long before the others time out
        eventually(lambda: read(store, last).status == "delivered", 20)
        assert len(hanging.calls) == delivery_turns.DUE_PER_WEBHOOK
        hanging.closing.set()


def test_each_webhook_has_its_turn(store: Sessions) -> None:
    busy, quiet = hook(store, "https://busy.example/"), hook(store, "https://quiet.example/")
    of_busy = [pending(store, busy) for _ in range(20)]
    of_quiet = pending(store, quiet)
    with store() as session:
        due = delivery_turns.due(session, 16)
        assert of_quiet in due[:2]
        assert len(due) == delivery_turns.DUE_PER_WEBHOOK + 1
    with store.begin() as session:
        for each in of_busy[: delivery_turns.DUE_PER_WEBHOOK]:
            assert deliveries.claim(session, each, "elsewhere", 60, 9)
    with store() as session:
        assert delivery_turns.due(session, 16) == [of_quiet]


def test_a_tenants_many_webhooks_do_not_hold_up_anothers_one(store: Sessions) -> None:
    for _ in range(30):
        pending(store, hook(store, "https://one-off.example/"))
    lonely = pending(store, hook(store, "https://lonely.example/", tenant="other"))
    with store() as session:
        due = delivery_turns.due(session, 16)
        assert lonely in due[:2]
        assert len(due) == delivery_turns.DUE_PER_TENANT + 1
        assert (
            len(delivery_turns.due(session, 100, {"t": 2})) == 2 * delivery_turns.DUE_PER_TENANT + 1
        )


def test_a_call_that_goes_on_is_finished_before_the_end(store: Sessions, hanging: Receiver) -> None:
    sent = pending(store, hook(store, hanging.url))
    with dispatching(store, configured(timeout=1)):
        assert hanging.arrived.acquire(timeout=60)
    with store() as session:
        assert session.get_one(DeliveryRow, sent).log[0]["error"].startswith("timeout")


def light_worker(
    words: list[str], database: str, redis_url: str, storage_url: str
) -> subprocess.Popen[bytes]:
    """Start Python with a light worker as it is deployed."""
    environment = os.environ | {
        "DATABASE_URL": database,
        "BROKER_URL": redis_url,
        "STORAGE_URL": storage_url,
        "WEBHOOK_ALLOWED_NETWORKS": LOOPBACK,
        "ENGINE_REQUIRE_CONFINEMENT": "false",
    }
    return subprocess.Popen([sys.executable, *words], env=environment)


def test_a_worker_process_delivers_what_it_finds_and_ends_on_sigterm(
    store: Sessions, target: Receiver, database: str, redis_url: str, storage_url: str
) -> None:
    words = ["-m", "workers.celery", "--queue", "light"]
    worker = light_worker(words, database, redis_url, storage_url)
    try:
        sent = pending(store, hook(store, target.url))
        eventually(lambda: read(store, sent).status == "delivered", 60)
        worker.terminate()
        assert worker.wait(timeout=60) == 0
    finally:
        worker.kill()
        worker.wait()


SIGNALLED_IN_A_DESTRUCTOR = """
import signal
from app.settings import Settings
from workers import celery

class Last:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

def able(process):
    Last()
    return True

celery.await_ability = able
celery.run(Settings(), "light", "cpu")
"""


def test_a_sigterm_whose_exception_a_destructor_swallows_ends_the_worker(
    database: str, redis_url: str, storage_url: str
) -> None:
    words = ["-c", SIGNALLED_IN_A_DESTRUCTOR]
    worker = light_worker(words, database, redis_url, storage_url)
    try:
        assert worker.wait(timeout=60) == 0
    finally:
        worker.kill()
        worker.wait()
