"""``/v1/jobs/{id}/events``: every event once and in order, resumed, closed at the end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.settings import Settings
from app.store import events
from app.store.session import Sessions
from app.store.tables import EventRow, JobRow
from tests.app.service import Service
from tests.app.serving import limited
from tests.waiting import eventually


def stream(
    service: Service, job: str, last: str | None = None, client: httpx.Client | None = None
) -> Generator[dict[str, Any]]:
    """Yield events as a browser would see them, with their numbers as ``id``."""
    headers = {} if last is None else {"Last-Event-ID": last}
    url = f"/v1/jobs/{job}/events"
    with (client or service.http).stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        event: dict[str, Any] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line == "" and event:
                yield {**json.loads(event.pop("data")), **event}
                event = {}
            elif name in {"id", "event", "data"}:
                event[name] = value


def test_a_finished_job_is_told_from_the_start_and_the_stream_closes(service: Service) -> None:
    job = service.job()["id"]
    service.start(job)
    service.finish(job)
    told = list(stream(service, job))
    assert [(event["id"], event["event"]) for event in told] == [
        ("1", "state"),
        ("2", "state"),
        ("3", "progress"),
        ("4", "state"),
    ]
    assert [event.get("status") for event in told] == ["queued", "running", None, "succeeded"]
    assert told[2]["progress"] == 0.5
    assert all(event["at"].endswith("+00:00") or event["at"].endswith("Z") for event in told)


@pytest.mark.parametrize(
    ("last", "first"),
    [("2", "3"), ("0", "1"), ("99", "1"), ("-1", "1"), ("two", "1"), ("9" * 40, "1")],
)
def test_a_stream_goes_on_after_a_known_event_else_from_the_start(
    service: Service, last: str, first: str
) -> None:
    job = service.job()["id"]
    service.start(job)
    service.finish(job)
    assert next(stream(service, job, last))["id"] == first


def test_an_open_stream_outlives_a_database_that_does_not_answer(service: Service) -> None:
    """The job is seen to have a new event, and the statement that reads it is cut off."""
    job = service.job()["id"]
    listening = stream(service, job)
    assert next(listening)["status"] == "queued"
    with service.store.begin() as session:
        session.execute(text("LOCK TABLE events IN ACCESS EXCLUSIVE MODE"))
        with service.store.begin() as other:
            other.get_one(JobRow, job).last_event += 1
        eventually(lambda: _cut_off(service.store), 20, "the stream's read")
        row = EventRow(job_id=job, number=2, kind="log", data={"message": "there again"})
        session.add(row)
    assert next(listening)["message"] == "there again"


def _cut_off(store: Sessions) -> bool:
    """Cancel a statement that waits for the table of events; return whether there was one."""
    with store() as session:
        waits = "SELECT pid FROM pg_locks WHERE relation = 'events'::regclass AND NOT granted"
        cancelled = f"SELECT count(*) FROM ({waits}) AS waits WHERE pg_cancel_backend(pid)"
        return bool(session.execute(text(cancelled)).scalar_one())


def test_events_arrive_while_they_happen_and_none_is_missed(service: Service) -> None:
    job = service.job()["id"]
    listening = stream(service, job)
    assert next(listening)["status"] == "queued"
    service.start(job)
    assert [next(listening)["event"] for _ in range(2)] == ["state", "progress"]
    with service.store.begin() as session:
        for number in range(1200):
            events.append(session, job, "log", {"level": "info", "message": str(number)})
    service.finish(job)
    rest = list(listening)
    assert [event["message"] for event in rest[:-1]] == [str(number) for number in range(1200)]
    assert rest[-1]["status"] == "succeeded"


def test_a_retried_job_is_followed_past_its_first_end(service: Service) -> None:
    job = service.job()["id"]
    service.http.post(f"/v1/jobs/{job}/cancel")
    service.http.post(f"/v1/jobs/{job}/retry")
    listening = stream(service, job)
    assert [next(listening)["status"] for _ in range(3)] == ["queued", "cancelled", "queued"]
    service.http.post(f"/v1/jobs/{job}/cancel")
    assert [event["status"] for event in listening] == ["cancelled"]


def test_a_deleted_job_has_no_stream(service: Service) -> None:
    job = service.job()["id"]
    service.http.post(f"/v1/jobs/{job}/cancel")
    service.http.delete(f"/v1/jobs/{job}")
    assert service.http.get(f"/v1/jobs/{job}/events").status_code == 404


def test_streams_that_are_open_at_one_time_are_bounded_by_tenant(
    settings: Settings, service: Service
) -> None:
    job = service.job()["id"]
    path = f"/v1/jobs/{job}/events"
    with limited(settings, service, event_streams=2) as http:
        listening = [stream(service, job, client=http) for _ in range(2)]
        assert [next(each)["status"] for each in listening] == ["queued", "queued"]
        refused = http.get(path)
        assert (refused.status_code, refused.json()["type"]) == (429, "too-many-requests")
        assert int(refused.headers["Retry-After"]) > 0
        listening[0].close()

        def is_told() -> bool:
            with http.stream("GET", path) as answer:
                return answer.status_code == 200

        eventually(is_told, what="the end of the stream that was closed")
        listening[1].close()


def test_the_gateway_stops_in_time_with_fifty_streams_open(
    settings: Settings, service: Service
) -> None:
    job = service.job()["id"]
    env = {
        **os.environ,
        "DATABASE_URL": settings.database.url,
        "BROKER_URL": settings.broker.url,
        "STORAGE_URL": settings.storage.url,
        "SERVER_PORT": "0",
        "AUTH_REQUIRED": "true",
        "SERVER_SHUTDOWN_SECONDS": "60",
    }
    gateway = subprocess.Popen([sys.executable, "-m", "app"], env=env, stderr=subprocess.PIPE)
    try:
        assert gateway.stderr is not None
        url = next(_addresses(gateway.stderr))
        limits = httpx.Limits(max_connections=60)
        headers = service.http.headers
        with ExitStack() as open_streams:
            client = open_streams.enter_context(
                httpx.Client(base_url=url, headers=headers, limits=limits, timeout=30)
            )
            listening = [stream(service, job, client=client) for _ in range(50)]
            assert [next(one)["status"] for one in listening] == ["queued"] * 50
            gateway.send_signal(signal.SIGTERM)
            gateway.wait(45)  # not for as long as it would wait for open requests
            for one in listening:
                one.close()
    finally:
        gateway.kill()
        gateway.wait()
        if gateway.stderr is not None:
            gateway.stderr.close()


def _addresses(log: Any) -> Generator[str]:
    for line in log:
        found = json.loads(line).get("event", "")
        if "running on" in found:
            yield found.split(" ")[3]
