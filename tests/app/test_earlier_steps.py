"""A step that was made before, with all the same, is taken; with anything else it is not."""

from typing import Any

import pytest

from app.blobs import Blob
from app.domain.directory import FinishedStep
from app.store import earlier_steps, runs, transitions
from app.store.claims import Claim
from app.store.tables import JobRow, StepRow
from tests.app.claiming import claim_next
from tests.app.service import Service

STEPS: list[dict[str, Any]] = [{"method": "prune", "ratio": 0.3}, {"method": "quantize"}]
DONE = FinishedStep(seconds=12.5, layers=[], skipped=[], notes=["It took long."])


def made(
    service: Service, claimed: Claim, done: FinishedStep = DONE, digits: str = "01"
) -> list[Blob]:
    """Let the worker finish a step for each digit, of which its graph's digest is made."""
    graphs = []
    for index, digit in enumerate(digits):
        with service.store.begin() as session:
            graph = Blob(digit * 64, 100 + index, key="")
            runs.keep_step(session, claimed, index, graph, done)
            graphs.append(graph)
    return graphs


def killed(service: Service, claimed: Claim) -> Claim:
    """Let another worker take the job over."""
    with service.store.begin() as session:
        transitions.give_back(session, session.get_one(JobRow, claimed.id), spent=True)
    again = claim_next(service)
    assert again.id == claimed.id
    return again


def request(service: Service) -> dict[str, Any]:
    return {"model": service.model(), "dataset": service.dataset(), "steps": STEPS, "seed": 3}


def test_the_same_steps_are_not_made_again_and_say_so(service: Service) -> None:
    asked = request(service)
    first = service.job(**asked)
    graphs = made(service, claim_next(service))
    service.job(**asked, name="again", tags=["other"], priority=2, limits={"running_minutes": 5})
    again = claim_next(service)
    assert [sha256 for sha256, _ in again.steps] == [graph.sha256 for graph in graphs]
    for _, step in again.steps:
        assert step.seconds == 0
        assert step.notes[0] == "It took long."
        assert first["id"] in step.notes[1]
    service.job(**asked)
    third = claim_next(service)
    assert all(len(step.notes) == 2 for _, step in third.steps), "no note piles up"
    with service.store() as session:
        took = [earlier_steps.seconds(session, job.id) for job in session.query(JobRow)]
    assert took == [25.0] * 3, "searches count what steps take where they are made"


def test_a_step_that_a_busy_machine_could_not_measure_is_made_again(service: Service) -> None:
    asked = request(service)
    service.job(**asked)
    made(service, claim_next(service), DONE.model_copy(update={"settled": False}))
    service.job(**asked)
    assert claim_next(service).steps == ()


def test_the_same_uploads_under_other_ids_are_the_same(service: Service) -> None:
    service.job(**request(service))
    made(service, claim_next(service))
    service.job(**request(service))
    assert len(claim_next(service).steps) == 2


def test_the_first_steps_are_taken_where_the_later_ones_differ(service: Service) -> None:
    asked = request(service)
    service.job(**asked)
    graphs = made(service, claim_next(service))
    service.job(**{**asked, "steps": [STEPS[0], {"method": "quantize", "mode": "float16"}]})
    claimed = claim_next(service)
    assert [sha256 for sha256, _ in claimed.steps] == [graphs[0].sha256]


def test_a_job_goes_on_from_its_own_graph_whatever_others_made_of_theirs(service: Service) -> None:
    asked = request(service)
    service.job(**asked)
    others = claim_next(service)
    service.job(**asked)
    mine = claim_next(service)
    made(service, others)
    [own] = made(service, mine, digits="a")
    mine = killed(service, mine)
    assert [sha256 for sha256, _ in mine.steps] == [own.sha256], "made of another graph"
    service.job(**asked)
    alike = claim_next(service)
    assert [step.seconds for _, step in alike.steps] == [0, 0]


def test_a_job_that_came_to_the_same_graph_takes_what_was_made_of_it(service: Service) -> None:
    asked = request(service)
    service.job(**asked)
    others = claim_next(service)
    service.job(**asked)
    mine = claim_next(service)
    graphs = made(service, others)
    made(service, mine, digits="0")
    mine = killed(service, mine)
    assert [sha256 for sha256, _ in mine.steps] == [graph.sha256 for graph in graphs]
    assert [step.seconds for _, step in mine.steps] == [12.5, 0], "the first is its own"


def test_what_formats_hold_makes_another_step_of_one_that_chooses_by_it(service: Service) -> None:
    for name in ("onnx", "ort", "pt2"):
        service.worker(name)
    asked = request(service)
    service.job(**asked)
    made(service, claim_next(service))
    service.job(**asked, deliver=["ort", "onnx"])
    assert len(claim_next(service).steps) == 2
    service.job(**asked, deliver=["pt2", "onnx"])
    assert len(claim_next(service).steps) == 1, "the first step does not choose"


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 4},
        {"require": {"max_quality_drop": 0.5}},
        {"evaluate": {"metric": "f1"}},
        {"dataset": None},
        {"steps": [{"method": "prune", "ratio": 0.4}, {"method": "quantize"}]},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_a_step_may_read_makes_it_another(service: Service, other: dict[str, Any]) -> None:
    asked = request(service)
    service.job(**asked)
    made(service, claim_next(service))
    service.job(**{**asked, **other})
    assert claim_next(service).steps == ()


def test_another_model_machine_or_tenant_makes_it_another(service: Service) -> None:
    asked = request(service)
    service.job(**asked)
    made(service, claim_next(service))
    service.job(**asked)
    assert claim_next(service, "another machine").steps == ()
    service.job(**asked)
    assert claim_next(service, None).steps == (), "nothing is taken where that is switched off"
    service.job(**{**asked, "model": service.model(b"another model" * 20)})
    assert claim_next(service).steps == ()
    with service.store.begin() as session:
        for row in session.query(StepRow):
            row.tenant = "other"
    service.job(**asked)
    assert claim_next(service).steps == ()
