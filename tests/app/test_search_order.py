"""A search finds the same however many workers there are, who is killed, and when trials end."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, select

from app.domain.searches import StrategyName
from app.store import transitions
from app.store.tables import JobRow, TrialRow, WorkerRow
from tests.app.searching import Figures, Json, end, search, shown, start, take_turn
from tests.app.service import Service

TRIALS = 9
STRATEGIES: tuple[StrategyName, ...] = ("guided", "halving", "evolution", "tpe", "once_for_all")


def figures(steps: list[Json]) -> Figures | None:
    """Return what a pipeline comes to, which hangs on the pipeline alone."""
    chance = random.Random(json.dumps(steps, sort_keys=True))
    if chance.random() < 0.2:
        return None
    return chance.uniform(0.1, 1.2), chance.choice([-0.002, 0.0, 0.004, 0.05])


def of_fleet(
    service: Service,
    asked: Json,
    workers: int,
    luck: int,
    judge: Callable[[list[Json]], Figures | None] = figures,
) -> tuple[Json, list[Any]]:
    """Run a search; return its job, and the steps of its trials by their numbers.

    Trials end in any order, and now and then a worker is killed: what it ran is queued again, and
    its row stays beside that of the next one.
    """
    chance = random.Random(luck)
    with service.store.begin() as session:
        session.execute(delete(WorkerRow))
    for _ in range(workers):
        service.worker("onnx")
    made = search(service, **asked)["id"]
    running: list[str] = []
    for _ in range(20 * TRIALS):
        take_turn(service, made)
        while len(running) < workers and (job_id := start(service)) is not None:
            running.append(job_id)
        if not running:
            break
        job_id = running.pop(chance.randrange(len(running)))
        if workers > 1 and chance.random() < 0.3:
            service.worker("onnx")
            with service.store.begin() as session:
                job = session.get_one(JobRow, job_id)
                transitions.give_back(session, job, spent=False)
        else:
            end(service, job_id, judge(shown(service, job_id)["steps"]))
    with service.store() as session:
        of_search = select(JobRow.request["steps"]).join(TrialRow, TrialRow.job_id == JobRow.id)
        numbered = of_search.where(TrialRow.search_id == made).order_by(TrialRow.number)
        return shown(service, made), [*session.scalars(numbered)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_search_finds_the_same_with_any_fleet(
    service: Service, strategy: StrategyName
) -> None:
    asked: Json = {
        "minimize": "macs",
        "objective": {"strategy": strategy},
        "budget": {"trials": TRIALS, "at_once": 3},
        "data": "generated",
        "dataset": None,
    }
    if strategy != "once_for_all":
        asked |= {"data": None, "dataset": service.dataset()}
    alone, by_one = of_fleet(service, asked, 1, 0)
    assert alone["status"] == "succeeded"
    made_all = alone["search"]["trials"]["done"] == TRIALS
    assert alone["search"]["ended_by"] == ("trials" if made_all else "exhausted")
    for workers, luck in ((2, 1), (5, 2)):
        several, by_many = of_fleet(service, asked, workers, luck)
        assert by_many == by_one
        for what in ("status", "verdict", "compressed"):
            assert several[what] == alone[what], what


def test_a_search_ends_alike_with_any_fleet_where_its_first_trials_come_to_nothing(
    service: Service,
) -> None:
    asked: Json = {"minimize": "macs", "budget": {"trials": TRIALS, "at_once": 4}}
    asked["dataset"] = service.dataset()
    alone, by_one = of_fleet(service, asked, 1, 0, lambda _: None)
    assert (alone["status"], len(by_one)) == ("failed", 4)
    for workers, luck in ((2, 1), (5, 2)):
        several, by_many = of_fleet(service, asked, workers, luck, lambda _: None)
        assert (several["status"], by_many) == ("failed", by_one)
    for workers in (1, 5):
        found = of_fleet(
            service, asked, workers, 1, lambda steps: (0.5, 0.0) if steps == by_one[3] else None
        )
        assert (found[0]["status"], len(found[1])) == ("succeeded", TRIALS)


def test_of_trials_that_cost_the_same_the_first_one_is_the_best(service: Service) -> None:
    for _ in range(2):
        service.worker("onnx")
    made = search(service, budget={"trials": 2, "at_once": 2})["id"]
    first, second = take_turn(service, made)
    assert [start(service), start(service)] == [first, second]
    for job_id in (second, first):
        end(service, job_id, (0.5, 0.0))
        take_turn(service, made)
    assert shown(service, made)["search"]["best"]["id"] == first
