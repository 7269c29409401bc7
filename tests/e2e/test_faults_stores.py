"""Faults of Redis, PostgreSQL, the storage and the gateway, numbered as in the list of faults."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pytest
import redis
from sqlalchemy.engine import make_url

from tests.e2e.service import SETTINGS, Service, small_model
from tests.receiver import receiver
from tests.waiting import eventually

TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"


@pytest.mark.parametrize("seconds", [1, 8])
def test_7_redis_killed_for_a_while_doubles_no_job(
    service: Service, model: str, seconds: float
) -> None:
    running = service.submit(model, "epochs=20")
    service.running(running)
    service.end(service.redis)
    queued = service.submit(model, "epochs=2")
    time.sleep(seconds)
    service.redis.start()
    for job_id, epochs in ((running, 20), (queued, 2)):
        assert service.assert_undisturbed(job_id, [epochs])["attempts"] == 1


def test_7_without_redis_for_a_minute_everything_goes_on(service: Service, model: str) -> None:
    """Workers look at the table by themselves: uploads, jobs and webhooks need no nudge."""
    with receiver() as told, service.more() as late:
        hook = service.http.post("/v1/webhooks", json={"url": told.url}).json()["id"]
        running = service.submit(model, "epochs=15")
        service.running(running)
        service.end(service.redis)
        began = time.monotonic()
        jobs = [service.submit(service.upload(small_model(7)), "epochs=2") for _ in range(3)]
        for job_id, epochs in ((running, 15), *((each, 2) for each in jobs)):
            assert service.assert_undisturbed(job_id, [epochs])["attempts"] == 1
        for _ in (running, *jobs):
            assert told.arrived.acquire(timeout=60)
        assert len({call.id for call in told.calls}) == len(told.calls) == 1 + len(jobs)
        service.http.delete(f"/v1/webhooks/{hook}").raise_for_status()
        service.end(late, signal.SIGTERM)
        assert late.exit_code == 0
        time.sleep(max(0, began + 60 - time.monotonic()))
    service.redis.start()
    after = service.submit(model, "epochs=2")
    assert service.assert_undisturbed(after, [2])["attempts"] == 1


def test_7_a_flushed_queue_loses_no_job_and_doubles_none(service: Service, model: str) -> None:
    jobs = [service.submit(model, "epochs=2") for _ in range(6)]
    service.running(jobs[0])
    socket = service.redis.url.removeprefix("redis+socket://")
    with redis.Redis(unix_socket_path=socket) as client:
        client.flushall()
    for job_id in jobs:
        assert service.assert_undisturbed(job_id, [2])["attempts"] == 1


def test_8_a_restart_of_postgresql_is_a_503_and_no_attempt(service: Service, model: str) -> None:
    job_id = service.submit(model, "epochs=40")
    service.running(job_id)
    service.end(service.postgres, signal.SIGINT)
    answer = service.http.get(f"/v1/jobs/{job_id}")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["type"] == "unavailable"
    time.sleep(3)
    service.postgres.start()
    eventually(lambda: service.http.get(f"/v1/jobs/{job_id}").is_success, what="the recovery")
    assert service.assert_undisturbed(job_id, [40])["attempts"] == 1


def test_8_another_server_that_takes_over_costs_no_attempt(service: Service, model: str) -> None:
    """It has run for long; leases that ran out meanwhile are their holders' to renew."""
    job_id = service.submit(model, "epochs=80")
    service.running(job_id)
    elsewhere = make_url(service.postgres.url).set(database="template1").render_as_string()
    with psycopg.connect(elsewhere, autocommit=True) as connection:
        connection.execute("ALTER DATABASE postgres ALLOW_CONNECTIONS false")
        connection.execute(f"{TERMINATE} AND datname = 'postgres'")
        assert service.http.get(f"/v1/jobs/{job_id}").status_code == 503
        time.sleep(2 * float(SETTINGS["LEASE_SECONDS"]))
        connection.execute("ALTER DATABASE postgres ALLOW_CONNECTIONS true")
    assert service.assert_undisturbed(job_id, [80])["attempts"] == 1


def test_8_terminated_connections_are_opened_again(service: Service, model: str) -> None:
    jobs = [service.submit(model, "epochs=5") for _ in range(3)]
    until = time.monotonic() + 3
    while time.monotonic() < until:
        service.rows(f"{TERMINATE} AND backend_type = 'client backend'")
        time.sleep(0.1)
    for job_id in jobs:
        eventually(lambda at=job_id: service.http.get(f"/v1/jobs/{at}").is_success)  # type: ignore[misc]
        service.assert_undisturbed(job_id, [5])


def test_9_a_gateway_killed_in_the_middle_of_an_upload_leaves_nothing(service: Service) -> None:
    before = service.blobs()

    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(256 * 1024)
            time.sleep(0.05)

    def upload() -> None:
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{service.gateway.url}/v1/models", content=endless(), timeout=30)

    sending = threading.Thread(target=upload)
    sending.start()
    eventually(service.incoming, what="the upload")
    service.restart(service.gateway)
    sending.join()
    assert service.blobs() == before
    service.sweep()
    assert not service.incoming()
    assert service.upload(small_model(1))


def test_9_a_job_that_was_never_nudged_for_runs(service: Service, model: str) -> None:
    """As when the gateway dies between commit and nudge: nothing but the row is there."""
    service.end(service.redis)
    job_id = service.submit(model, "epochs=2")
    service.restart(service.gateway)
    service.redis.start()
    service.assert_undisturbed(job_id, [2])


@contextmanager
def _cancelled_within(service: Service, job_id: str, seconds: float) -> Iterator[None]:
    yield
    began = time.monotonic()
    assert service.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    assert service.finished(job_id, seconds)["status"] == "cancelled"
    assert time.monotonic() - began < seconds
    assert [each for each in service.states(job_id) if each == "cancelled"] == ["cancelled"]
    assert service.http.post(f"/v1/jobs/{job_id}/cancel").status_code == 409


@pytest.mark.parametrize("word", ["epochs=600", "spin"])
def test_11_a_running_job_is_cancelled_within_five_seconds(
    service: Service, model: str, word: str
) -> None:
    job_id = service.submit(model, word)
    with _cancelled_within(service, job_id, 5):
        eventually(lambda: service.job(job_id)["status"] == "running")
        eventually(lambda: service.engines(service.jobs), what="the engine")


def test_11_a_queued_job_is_cancelled_at_once(service: Service, model: str) -> None:
    first = service.submit(model, "epochs=20")
    service.running(first)
    queued = service.submit(model, "epochs=20")
    with _cancelled_within(service, queued, 5):
        assert service.job(queued)["status"] == "queued"
    service.assert_undisturbed(first, [20])


def test_11_a_cancel_that_races_success_leaves_one_terminal_state(
    service: Service, model: str
) -> None:
    for wait in (0.10, 0.18, 0.22, 0.26, 0.34):
        job_id = service.submit(model, "epochs=2")
        time.sleep(wait)
        answer = service.http.post(f"/v1/jobs/{job_id}/cancel").status_code
        job = service.finished(job_id)
        ends = [each for each in service.states(job_id) if each in {"succeeded", "cancelled"}]
        assert ends == [job["status"]]
        assert answer == 202 or job["status"] == "succeeded"


def test_leftovers_of_dead_processes_are_swept(service: Service, model: str) -> None:
    job_id = service.submit(model, "epochs=10")
    service.running(job_id)
    service.restart(service.jobs)
    service.await_worker(service.jobs)
    service.assert_undisturbed(job_id, [10])
    both = "SELECT id FROM workers WHERE pid IN (%s, %s)"
    alive = {worker for (worker,) in service.rows(both, service.light.pid, service.jobs.pid)}

    def left() -> set[str]:
        return {path.stem for path in service.directory.glob("wrk_*")}

    eventually(lambda: left() == alive, what="the removal of what dead processes left")
