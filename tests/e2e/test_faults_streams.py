"""Faults of event streams, numbered as in the list of faults to survive."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from planish import Client
from planish.types import Event
from tests.e2e.service import Service
from tests.waiting import eventually


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.gateway.url, attempts=12) as opened:
        yield opened


def _assert_whole(service: Service, job_id: str, told: list[Event]) -> None:
    """Assert that a listener was told every event once, in order, and the job's end last."""
    stored = service.rows(
        "SELECT number, kind, data FROM events WHERE job_id = %s ORDER BY number", job_id
    )
    shown = [
        (event.number, event.kind, {name: event.data[name] for name in event.data if name != "at"})
        for event in told
    ]
    assert shown == stored
    assert [event.number for event in told] == list(range(1, len(told) + 1))
    assert [event.number for event in told if event.ends_the_job] == [told[-1].number]


def test_14_a_stream_that_its_client_cuts_after_every_event_has_no_gap_and_no_repeat(
    service: Service, model: str, client: Client
) -> None:
    job_id = service.submit(model, "epochs=25")
    told = [next(client.events(job_id))]
    while not told[-1].ends_the_job:
        told.append(next(client.events(job_id, after=told[-1].number)))
    _assert_whole(service, job_id, told)
    service.assert_undisturbed(job_id, [25])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_14_streams_go_on_when_their_gateway_ends_and_starts_again(
    service: Service, model: str, client: Client, how: signal.Signals
) -> None:
    job_id = service.submit(model, "epochs=40")
    with ThreadPoolExecutor(5) as listening:
        streams = [listening.submit(list, client.events(job_id)) for _ in range(5)]
        service.running(job_id, 0.2)
        for _ in range(2):
            service.restart(service.gateway, how)
        for stream in streams:
            _assert_whole(service, job_id, stream.result())
    service.assert_undisturbed(job_id, [40])


def test_14_a_gateway_that_is_away_when_the_job_ends_tells_the_end_afterwards(
    service: Service, model: str, client: Client
) -> None:
    job_id = service.submit(model, "epochs=3")
    told = [next(client.events(job_id))]
    service.end(service.gateway)
    ended = "SELECT 1 FROM jobs WHERE id = %s AND finished_at IS NOT NULL"
    eventually(lambda: service.rows(ended, job_id), what="the end of the job")
    service.gateway.start()
    told += client.events(job_id, after=told[-1].number)
    _assert_whole(service, job_id, told)
    service.assert_undisturbed(job_id, [3])
