"""Jobs whose samples are made from the model: what is taken, refused and warned of."""

from typing import Any

import pytest
from sqlalchemy import update

from app.blobs import Blob
from app.domain.directory import FinishedStep
from app.store import runs, transitions
from app.store.claims import Claim
from app.store.tables import JobRow, StepRow
from tests.app.claiming import claim_next
from tests.app.service import Service, pointers

GENERATED = {"data": "generated"}
STATIC: dict[str, Any] = {"method": "quantize", "mode": "static"}
WITH_INPUTS: list[dict[str, Any]] = [
    STATIC,
    {"method": "quantize"},
    {"method": "quantize", "mode": "qat"},
    {"method": "prune", "criterion": "taylor"},
    {"method": "prune", "recover": {"loss": "teacher"}},
    {"method": "low_rank", "recover": {}},
    {"method": "distill"},
    {"method": "distill", "losses": [{"kind": "soft_targets"}, {"kind": "features"}]},
]
WITH_LABELS: list[dict[str, Any]] = [
    {"method": "prune", "recover": {"loss": "labels"}},
    {"method": "quantize", "mode": "qat", "recover": {"loss": "both"}},
    {"method": "distill", "losses": [{"kind": "labels"}]},
]


def test_what_needs_inputs_works_with_samples_that_are_made(service: Service) -> None:
    body = {"model": service.model(), **GENERATED}
    for step in WITH_INPUTS:
        plan = service.http.post("/v1/jobs/plan", json={**body, "steps": [step]}).json()
        assert plan["ok"], (step, plan)
        assert any("made from the model" in warning for warning in plan["warnings"]), step
    job = service.http.post("/v1/jobs", json={**body, "steps": [STATIC], "dataset": None})
    assert job.status_code == 202, job.text
    assert (job.json()["dataset"], job.json()["data"]) == (None, "generated")


def test_what_needs_labels_is_refused(service: Service) -> None:
    body = {"model": service.model(), **GENERATED}
    for step in WITH_LABELS:
        plan = service.http.post("/v1/jobs/plan", json={**body, "steps": [step]}).json()
        assert not plan["ok"], step
        assert "made from the model have none" in plan["refused"][0]["reason"], step
        answer = service.http.post("/v1/jobs", json={**body, "steps": [step]})
        assert (answer.status_code, pointers(answer)) == (422, ["#/steps/0"]), step


def test_labels_may_be_those_of_a_dataset_to_judge_on(service: Service) -> None:
    """Quality is measured on real data where there are some; the steps need none."""
    evaluate = {"dataset": service.dataset(), "metric": "top1"}
    body = {"model": service.model(), **GENERATED, "steps": [STATIC], "evaluate": evaluate}
    plan = service.http.post("/v1/jobs/plan", json=body).json()
    assert plan["ok"], plan
    without = service.http.post("/v1/jobs/plan", json={**body, "evaluate": {"metric": "top1"}})
    assert not without.json()["ok"], "made samples have no labels to count"


@pytest.mark.parametrize("wrong", ["real", True, "dst_1"])
def test_other_words_are_refused(service: Service, wrong: Any) -> None:
    body = {"model": service.model(), "data": wrong, "steps": [STATIC]}
    answer = service.http.post("/v1/jobs", json=body)
    assert (answer.status_code, pointers(answer)) == (422, ["#/data"])


def test_a_dataset_and_made_samples_exclude_each_other(service: Service) -> None:
    body = {"model": service.model(), "dataset": service.dataset(), **GENERATED}
    answer = service.http.post("/v1/jobs", json={**body, "steps": [STATIC]})
    assert (answer.status_code, pointers(answer)) == (422, ["#/data"])


def test_a_plan_counts_the_time_that_samples_take(service: Service) -> None:
    body = {"model": service.model(), "steps": [STATIC]}
    minutes = [
        service.http.post("/v1/jobs/plan", json={**body, **data}).json()["estimate"]["minutes"]
        for data in ({"dataset": service.dataset()}, GENERATED)
    ]
    assert minutes[1] > minutes[0]


def test_a_run_expects_the_steps_that_it_has_to_make(service: Service) -> None:
    """Also where its graphs were deleted in the meantime, as retention does it."""
    service.job(**GENERATED, steps=[{"method": "prune", "ratio": 0.3}, STATIC])
    first = claim_next(service)
    with service.store.begin() as session:
        done = FinishedStep(seconds=1, layers=[], skipped=[])
        runs.keep_step(session, first, 0, Blob("a" * 64, 100, key=""), done)
    second = _taken_over(service, first)
    with service.store.begin() as session:
        session.execute(update(StepRow).values(graph_sha256=None))
    third = _taken_over(service, second)
    assert first.expected is not None
    assert second.expected is not None
    assert 0 < second.expected.steps_seconds < first.expected.steps_seconds
    assert third.expected == first.expected


def _taken_over(service: Service, claimed: Claim) -> Claim:
    """Let another worker take a job over."""
    with service.store.begin() as session:
        transitions.give_back(session, session.get_one(JobRow, claimed.id), spent=False)
    return claim_next(service)
