"""Faults of webhook receivers, number 13 in the list of faults, through the whole service."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.service import Json, Service
from tests.receiver import Answer, Receiver, receiver, status
from tests.waiting import eventually

FIRST_WAITS = (5, 30, 120, 600, 3600)
"""Seconds after the first failure, the second and so on; more than an hour in all."""
JITTER = 0.2


@contextmanager
def _told(service: Service, target: Receiver) -> Iterator[Json]:
    """Have a receiver told about jobs for a while."""
    hook = service.http.post("/v1/webhooks", json={"url": target.url}).json()
    try:
        yield hook
    finally:
        service.http.delete(f"/v1/webhooks/{hook['id']}").raise_for_status()


def _deliveries(service: Service, hook: Json) -> list[Json]:
    answer = service.http.get(f"/v1/webhooks/{hook['id']}/deliveries")
    assert "TOP-SECRET" not in answer.text, "what a receiver writes is never shown"
    found: list[Json] = answer.json()["items"]
    return found


def _attempted(service: Service, hook: Json, attempts: int) -> Json:
    """Wait for an attempt of the only delivery to end, and return the delivery."""

    def attempted() -> Json | None:
        (delivery,) = _deliveries(service, hook)
        return delivery if len(delivery["attempts"]) == attempts else None

    return eventually(attempted, 20, f"attempt {attempts}")


def _let_its_time_come(service: Service, delivery: Json) -> None:
    service.rows("UPDATE deliveries SET not_before = now() WHERE id = %s", delivery["id"])


def _seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def test_13_a_receiver_that_was_down_for_an_hour_is_told_under_the_same_id(
    service: Service, model: str
) -> None:
    with receiver() as first:
        pass
    port = urlsplit(first.url).port
    assert port is not None
    with _told(service, first) as hook:
        job = service.assert_undisturbed(service.submit(model, "epochs=2"), [2])
        for failures, wait in enumerate(FIRST_WAITS, start=1):
            delivery = _attempted(service, hook, failures)
            last = delivery["attempts"][-1]
            assert last["error"].startswith("no connection")
            waits = _seconds_between(last["at"], delivery["next_attempt_at"])
            assert wait <= waits <= wait * (1 + JITTER) + 2
            if failures == 2:
                service.restart(service.light)
                service.await_worker(service.light)
                assert _deliveries(service, hook) == [delivery], "a restart changes no schedule"
            if failures < len(FIRST_WAITS):
                _let_its_time_come(service, delivery)
        with receiver(port=port) as back:
            _let_its_time_come(service, delivery)
            delivered = _attempted(service, hook, 1 + len(FIRST_WAITS))
            (call,) = back.calls
        message = service.rows("SELECT message_id FROM deliveries WHERE job_id = %s", job["id"])
        assert [(call.id,)] == message
        payload: Any = call.verify(hook["secret"])
        assert (payload["type"], payload["data"]["id"]) == ("job.succeeded", job["id"])
        assert payload["data"]["artifacts"][0]["sha256"] == job["artifacts"][0]["sha256"]
        assert (delivered["status"], delivered["next_attempt_at"]) == ("delivered", None)


@pytest.mark.parametrize(
    ("habit", "code", "reason"),
    [
        (status(500, b"TOP-SECRET"), 500, "answered 500"),
        (status(301, b"TOP-SECRET", Location="/elsewhere"), 301, "redirect: 301 is not followed"),
        ("hang", None, "timeout"),
        ("drip", None, "timeout"),
    ],
    ids=["500", "301", "slow to answer", "slow to end"],
)
def test_13_a_failure_is_visible_and_tried_again_under_the_same_id(
    service: Service, model: str, habit: Answer | str, code: int | None, reason: str
) -> None:
    with receiver() as target, _told(service, target) as hook:
        target.answer = getattr(target, habit) if isinstance(habit, str) else habit
        service.finished(service.submit(model, "epochs=1"))
        failed = _attempted(service, hook, 1)
        (attempt,) = failed["attempts"]
        assert (failed["status"], attempt["response_status"]) == ("pending", code)
        assert reason in attempt["error"]
        assert len(target.calls) == 1, "a redirect is not followed"
        target.answer = status(204)
        _let_its_time_come(service, failed)
        assert _attempted(service, hook, 2)["status"] == "delivered"
        first, second = target.calls
        assert (first.id, first.body, first.path) == (second.id, second.body, second.path)


def test_13_a_receiver_that_is_gone_for_good_is_told_no_more(service: Service, model: str) -> None:
    with receiver() as target, _told(service, target) as hook:
        target.answer = status(410)
        service.finished(service.submit(model, "epochs=1"))
        gone = _attempted(service, hook, 1)
        assert (gone["status"], gone["next_attempt_at"]) == ("failed", None)
        shown = service.http.get(f"/v1/webhooks/{hook['id']}").json()
        assert shown["enabled"] is False
        assert "410" in shown["disabled_reason"]
        service.finished(service.submit(model, "epochs=1"))
        assert _deliveries(service, hook) == [gone]
        target.answer = status(204)
        service.http.patch(f"/v1/webhooks/{hook['id']}", json={"enabled": True}).raise_for_status()
        service.finished(service.submit(model, "epochs=1"))
        eventually(lambda: len(target.calls) == 2, what="the message after it was enabled again")
