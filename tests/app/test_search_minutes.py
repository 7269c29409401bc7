"""Minutes bound a search, and tell what it has left."""

import pytest
from sqlalchemy import func

from app.domain.problems import RunningLimit
from app.store import events, transitions
from app.store.tables import JobRow
from tests.app.searching import (
    GOOD,
    begun_trial,
    end,
    search,
    shown,
    start,
    take_turn,
)
from tests.app.service import Service


def test_the_original_is_delivered_when_the_minutes_are_over_unless_it_is_cancelled(
    service: Service,
) -> None:
    service.worker("openvino")
    for cancelled in (False, True):
        made = search(service, "macs", deliver=["openvino"], budget={"trials": 1})
        trial = begun_trial(service, made["id"])
        take_turn(service, made["id"])
        end(service, trial, (1.0, 0.0))
        since(service, made["id"], minutes=60)
        [original] = take_turn(service, made["id"])
        assert take_turn(service, made["id"]) == [], "it goes on"
        if cancelled:
            assert service.http.post(f"/v1/jobs/{made['id']}/cancel").status_code == 202
        else:
            assert start(service) == original
            end(service, original, (1.0, 0.0))
        take_turn(service, made["id"])
        expected = "cancelled" if cancelled else "succeeded"
        ended = shown(service, made["id"])
        assert ended["status"] == expected
        assert (ended["search"]["ended_by"] == "cancelled") is cancelled


def test_minutes_bound_a_search(service: Service) -> None:
    made = search(service)
    first = begun_trial(service, made["id"])
    take_turn(service, made["id"])
    end(service, first, GOOD)
    second = begun_trial(service, made["id"])
    since(service, made["id"], minutes=11)
    take_turn(service, made["id"])
    with service.store.begin() as session:
        job = session.get_one(JobRow, second)
        assert job.cancel_requested, "its time is over"
        transitions.finish(session, job, "cancelled")
    take_turn(service, made["id"])
    ended = shown(service, made["id"])
    assert ended["status"] == "succeeded"
    assert ended["search"]["best"]["id"] == first
    assert ended["search"]["ended_by"] == "minutes"
    assert ended["verdict"].endswith("Its 10 minutes were over before all 4 were made.")


def test_the_time_left_of_a_search_is_that_of_its_trials_or_of_its_minutes(
    service: Service,
) -> None:
    made = search(service)
    first = begun_trial(service, made["id"])
    take_turn(service, made["id"])
    assert shown(service, made["id"])["eta_seconds"] is None, "nothing is known of a trial yet"
    since(service, first, minutes=1)
    eta_of(service, first, 60)
    assert left(service, made["id"]) == pytest.approx(60 + 3 * 120, abs=5)
    end(service, first, GOOD)
    second = begun_trial(service, made["id"])
    since(service, second, minutes=1)
    assert left(service, made["id"]) == pytest.approx(0 + 2 * 60, abs=5)
    eta_of(service, second, 90)
    assert left(service, made["id"]) == pytest.approx(90 + 2 * 60, abs=5)
    since(service, made["id"], minutes=9)
    assert left(service, made["id"]) == pytest.approx(60, abs=5), "then its minutes are over"
    assert shown(service, made["id"])["stage"] == "trial 2 of 4, within 10 minutes"


def test_a_search_whose_minutes_end_its_first_trial_says_that_and_not_what_the_trial_says(
    service: Service,
) -> None:
    service.worker("onnx")
    service.worker("onnx")
    made = search(service)
    first = begun_trial(service, made["id"])
    take_turn(service, made["id"])
    with service.store.begin() as session:
        transitions.give_back(session, session.get_one(JobRow, first), spent=False)
    assert start(service) == first
    since(service, made["id"], minutes=11)
    with service.store.begin() as session:
        problem = RunningLimit("The time that the run may take is up.")
        transitions.finish(session, session.get_one(JobRow, first), "failed", problem)
    take_turn(service, made["id"])
    ended = shown(service, made["id"])
    assert (ended["status"], ended["search"]["ended_by"]) == ("failed", "minutes")
    assert ended["problem"]["detail"].startswith("No trial ended within 10 minutes")
    counts = {"budget": 4, "done": 1, "failed": 1, "running": 0, "left": 3}
    assert ended["search"]["trials"] == counts, "one more waited"
    with service.store() as session:
        log = [words for _, words in events.lines(session, made["id"], 99, 99)]
    assert any(words.endswith(", begun 2 times: no figures, running-limit.") for words in log), log


def since(service: Service, job_id: str, minutes: int) -> None:
    """Have a job begun so long ago."""
    with service.store.begin() as session:
        row = session.get_one(JobRow, job_id)
        row.started_at = func.now() - func.make_interval(0, 0, 0, 0, 0, minutes)


def eta_of(service: Service, job_id: str, seconds: float) -> None:
    """Have a job that runs say what it has left."""
    with service.store.begin() as session:
        session.get_one(JobRow, job_id).eta_seconds = seconds


def left(service: Service, search_id: str) -> float:
    """Return what a search has left, after a turn."""
    take_turn(service, search_id)
    found: float = shown(service, search_id)["eta_seconds"]
    return found
