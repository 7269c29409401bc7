"""Faults of the gateway under retried requests, numbered as in the list of faults."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psycopg
import pytest

from tests.e2e.service import Service
from tests.waiting import eventually

RETRIES = 50


@pytest.fixture
def asking() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(RETRIES) as pool:
        yield pool


def _submit(service: Service, model: str, key: str) -> httpx.Response:
    """Submit a job of three epochs that is named as its Idempotency-Key."""
    step = {"method": "quantize", "mode": "float16", "ignore": ["epochs=3"]}
    return httpx.post(
        f"{service.gateway.url}/v1/jobs",
        json={"model": model, "steps": [step], "name": key},
        headers={"Idempotency-Key": key},
        timeout=30,
        trust_env=False,
    )


def _insist(service: Service, model: str, key: str) -> httpx.Response:
    """Submit as a careful client does: again after a lost connection, and while in flight."""

    def answered() -> httpx.Response | None:
        try:
            answer = _submit(service, model, key)
        except httpx.TransportError:
            return None
        assert answer.status_code in {202, 409}, answer.text
        return answer if answer.status_code == 202 else None

    return eventually(answered, what="an answer")


def _only_job(service: Service, name: str) -> str:
    ((job_id,),) = service.rows("SELECT id FROM jobs WHERE name = %s", name)
    return str(job_id)


def _is_replay(answer: httpx.Response) -> bool:
    return "Idempotent-Replay" in answer.headers


def test_12_one_key_fifty_times_in_parallel_is_one_job(
    service: Service, model: str, asking: ThreadPoolExecutor
) -> None:
    answers = list(asking.map(lambda _: _submit(service, model, "burst"), range(RETRIES)))
    made = [answer for answer in answers if answer.status_code == 202]
    refused = [answer.json()["type"] for answer in answers if answer not in made]
    assert set(refused) <= {"request-in-flight"}
    assert len({answer.content for answer in made}) == 1
    assert [_is_replay(answer) for answer in made].count(False) == 1
    job_id = _only_job(service, "burst")
    assert made[0].json()["id"] == job_id
    assert service.assert_undisturbed(job_id, [3])["attempts"] == 1
    again = _submit(service, model, "burst")
    assert (again.status_code, again.content) == (202, made[0].content), "also when it has ended"
    assert _is_replay(again)


def test_12_fifty_retries_through_a_crash_of_the_gateway_are_one_job(
    service: Service, model: str, asking: ThreadPoolExecutor
) -> None:
    answers = [asking.submit(_insist, service, model, "crash") for _ in range(RETRIES)]
    eventually(lambda: any(answer.done() for answer in answers), what="the first answer")
    service.restart(service.gateway)
    assert len({answer.result().content for answer in answers}) == 1
    job_id = _only_job(service, "crash")
    assert answers[0].result().json()["id"] == job_id
    assert service.assert_undisturbed(job_id, [3])["attempts"] == 1


@contextmanager
def _held_up_before_commit(service: Service, model: str) -> Iterator[None]:
    """Have whoever submits a job wait in the middle of its transaction."""
    with psycopg.connect(service.postgres.url) as holding:
        holding.execute("SELECT 1 FROM models WHERE id = %s FOR UPDATE", [model])
        yield


def _fails_to_answer(answer: "Future[httpx.Response]") -> None:
    with pytest.raises(httpx.TransportError):
        answer.result()


def test_12_a_gateway_killed_before_commit_has_made_nothing_and_the_retry_makes_it(
    service: Service, model: str, asking: ThreadPoolExecutor
) -> None:
    held = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"
    with _held_up_before_commit(service, model):
        lost = asking.submit(_submit, service, model, "before")
        eventually(lambda: service.rows(held), what="the transaction")
        assert _submit(service, model, "before").json()["type"] == "request-in-flight"
        service.end(service.gateway)
    _fails_to_answer(lost)
    service.gateway.start()
    answer = _insist(service, model, "before")
    assert not _is_replay(answer)
    assert answer.json()["id"] == _only_job(service, "before")
    service.assert_undisturbed(answer.json()["id"], [3])


def test_12_a_gateway_killed_after_commit_replays_the_same_job(
    service: Service, model: str, asking: ThreadPoolExecutor
) -> None:
    """It is held up between commit and answer: the nudge goes to a Redis that stands still."""
    with service.asleep(service.redis):
        lost = asking.submit(_submit, service, model, "after")
        made = "SELECT 1 FROM jobs WHERE name = 'after'"
        eventually(lambda: service.rows(made), what="the commit")
        service.end(service.gateway)
    _fails_to_answer(lost)
    service.gateway.start()
    answer = _submit(service, model, "after")
    assert answer.status_code == 202, answer.text
    assert _is_replay(answer)
    assert answer.json()["id"] == _only_job(service, "after")
    assert service.assert_undisturbed(answer.json()["id"], [3])["attempts"] == 1
