"""When a search has its turns, and how much one of them does."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.blobs import Blob
from app.domain import ids
from app.domain.reports import Generated
from app.settings import Settings
from app.store import made_samples, searches, transitions
from app.store.tables import JobRow, TrialRow, WorkerRow
from tests.app.people import send
from tests.app.searching import first_trial, search, take_turn
from tests.app.service import Service
from tests.workers.worker import worker_with
from workers.search.driver import take_turns
from workers.search.turn import FILED_PER_TURN


def test_a_search_has_one_turn_in_an_interval_however_many_workers_look(service: Service) -> None:
    made = search(service)["id"]
    with service.store.begin() as session:
        assert searches.due(session, 9) == [made]
        row = searches.hold(session, made)
        assert row is not None
        searches.rest(session, row, 60)
    with service.store.begin() as session:
        assert not searches.due(session, 9)
        assert searches.hold(session, made, due=True) is None, "whoever saw it due comes too late"
        row = searches.hold(session, made)
        assert row is not None
        searches.rest(session, row, 0)
    with service.store() as session:
        assert searches.due(session, 9) == [made]
        assert searches.hold(session, made, due=True) is not None


def test_a_search_that_can_neither_go_on_nor_end_holds_up_no_other(
    service: Service, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = search(service)["id"], search(service)["id"]
    finish = transitions.finish

    def cannot(session: Session, job: JobRow, *words: Any) -> Any:
        if job.id == broken:
            raise RuntimeError("broken")
        return finish(session, job, *words)

    with service.store.begin() as session:  # no objective: an assertion fails within its turn
        row = session.get_one(JobRow, broken)
        row.request = {**row.request, "objective": None, "steps": []}
    monkeypatch.setattr(transitions, "finish", cannot)
    with worker_with(settings, tmp_path) as worker:
        take_turns(worker)
    with service.store() as session:
        assert session.get_one(JobRow, broken).status == "queued"
        assert [trial.search_id for trial in session.scalars(select(TrialRow))] == [sound]


def test_a_search_of_another_version_is_left_to_it_and_holds_up_no_other(
    service: Service, settings: Settings, tmp_path: Path
) -> None:
    newer, sound = search(service)["id"], search(service)["id"]
    with service.store.begin() as session:
        row = session.get_one(JobRow, newer)
        row.request = {**row.request, "objective": {"minimize": "noise"}}
    with worker_with(settings, tmp_path) as worker:
        take_turns(worker)
    with service.store() as session:
        assert session.get_one(JobRow, newer).status == "queued", "it waits"
        assert newer not in searches.due(session, 9), "and rests"
        assert [trial.search_id for trial in session.scalars(select(TrialRow))] == [sound]


@pytest.mark.parametrize(
    ("figures", "status"),
    [({"size_bytes": "many"}, "failed"), ({"noise": 0.5}, "queued")],
    ids=["nonsense", "of a newer version"],
)
def test_a_search_whose_figures_cannot_be_read_fails_or_is_left_to_their_version(
    service: Service, settings: Settings, tmp_path: Path, figures: dict[str, Any], status: str
) -> None:
    """No worker of any version can go on with nonsense: it must not wait for one for ever."""
    made = search(service)["id"]
    trial = first_trial(service, made)
    with service.store.begin() as session:
        job = session.get_one(JobRow, trial)
        job.compressed = {**(job.compressed or {}), **figures}
    with worker_with(settings, tmp_path) as worker:
        take_turns(worker)
    with service.store() as session:
        row = session.get_one(JobRow, made)
        problem = row.problem["type"] if row.problem else None
        assert (row.status, problem) == (status, "internal-error" if status == "failed" else None)
        assert made not in searches.due(session, 9)


def test_a_tenants_many_searches_leave_turns_for_others(service: Service) -> None:
    *many, other = (search(service)["id"] for _ in range(4))
    with service.store.begin() as session:
        session.get_one(JobRow, other).tenant = "another"
    with service.store() as session:
        assert searches.due(session, 3) == [many[0], other, many[1]]


@pytest.mark.parametrize("page", [False, True], ids=["API", "page"])
def test_a_retry_of_a_search_nudges_those_who_take_its_turns(
    service: Service, person: httpx.Client, redis_url: str, page: bool
) -> None:
    made = search(service)["id"]
    service.http.post(f"/v1/jobs/{made}/cancel").raise_for_status()
    with redis.Redis(unix_socket_path=redis_url.removeprefix("redis+socket://")) as broker:
        broker.delete("jobs", "light")
        if page:
            assert send(person, f"/jobs/{made}/retry").status_code == 303
        else:
            service.http.post(f"/v1/jobs/{made}/retry").raise_for_status()
        assert (broker.llen("light"), broker.llen("jobs")) == (1, 0)


def test_a_trial_that_ends_gives_its_search_a_turn_and_other_jobs_give_none(
    service: Service,
) -> None:
    made = search(service)["id"]
    trial = first_trial(service, made)
    alone = service.job()["id"]
    with service.store() as session:
        assert searches.of_trial(session, trial) == made
        assert searches.of_trial(session, alone) is None


def test_a_large_fleet_is_given_its_trials_over_several_turns(service: Service) -> None:
    """While a strategy is asked the search is locked, and a cancellation waits for that."""
    fleet = 2 * FILED_PER_TURN + 1
    with service.store.begin() as session:
        for number in range(fleet):
            worker = ids.new("wrk")
            session.add(WorkerRow(id=worker, hostname="h", pid=number, queue="jobs", device="cpu"))
    most = 2 * FILED_PER_TURN
    made = search(service, budget={"trials": most, "at_once": most})["id"]
    filed = [*take_turn(service, made), *take_turn(service, made)]
    assert len(filed) == most
    assert not take_turn(service, made), "the budget is spent"
    listed = service.http.get("/v1/jobs", params={"parent": made}).json()["items"]
    assert [job["id"] for job in listed] == filed[::-1]


def test_samples_are_made_by_one_trial_before_others_begin(service: Service) -> None:
    service.worker("onnx")
    service.worker("onnx")
    made = search(service, dataset=None, data="generated")["id"]
    assert len(take_turn(service, made)) == 1
    assert not take_turn(service, made), "it makes the samples of all"
    blob = Blob("a" * 64, 10, key="")
    with service.store.begin() as session:
        generated = Generated(way="declared", samples=40, note="")
        made_samples.keep(session, session.get_one(JobRow, made), blob, generated)
    assert len(take_turn(service, made)) == 1
