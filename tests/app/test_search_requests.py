"""Searches as they are asked for: what is refused, and why."""

from typing import Any

import pytest

from tests.app.searching import Json
from tests.app.service import Service, pointers


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"steps": [{"method": "cluster"}]}, "#/objective"),
        ({"objective": {"minimize": "time"}}, "#/objective/minimize"),
        ({"objective": {"minimize": "size", "budget": {"trials": 0}}}, "#/objective/budget/trials"),
        (
            {"objective": {"minimize": "size", "budget": {"at_once": 0}}},
            "#/objective/budget/at_once",
        ),
        (
            {"objective": {"minimize": "size", "budget": {"minutes": 1e9}}},
            "#/objective/budget/minutes",
        ),
        ({"objective": {"minimize": "size", "strategy": "luck"}}, "#/objective/strategy"),
        ({"objective": {"minimize": "size", "steps": 3}}, "#/objective/steps"),
        ({"objective": {"minimize": "size", "strategy": "haq"}}, "#/dataset"),
        ({"objective": {"minimize": "macs", "strategy": "haq"}}, "#/objective"),
    ],
)
def test_an_objective_that_is_none_is_refused(
    service: Service, changes: Json, pointer: str
) -> None:
    body = {"model": service.model(), "objective": {"minimize": "size"}, **changes}
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert pointers(answer) == [pointer]


def test_bits_that_are_learned_are_for_onnxruntime_alone(service: Service) -> None:
    for target in ("onnx", "pt2"):
        service.worker(target)
    body: Json = {
        "model": service.model(),
        "data": "generated",
        "objective": {"minimize": "size", "strategy": "haq"},
    }
    assert service.http.post("/v1/jobs/plan", json=body).json()["ok"]
    answer = service.http.post("/v1/jobs", json={**body, "deliver": ["onnx", "pt2"]})
    assert answer.status_code == 422
    assert pointers(answer) == ["#/objective/strategy"]
    assert "use strategy 'guided'" in answer.text


def test_a_supernet_needs_residual_blocks_samples_and_gradients(service: Service) -> None:
    objective: Json = {"minimize": "macs", "strategy": "once_for_all"}

    def refused(**changes: Any) -> str:
        body = {"data": "generated", "model": service.model(blocks=3), "objective": objective}
        plan = service.http.post("/v1/jobs/plan", json={**body, **changes}).json()
        return " ".join(each["reason"] for each in plan["refused"])

    assert refused() == ""
    assert "has none: use 'guided'" in refused(model=service.model(blocks=0))
    assert "choose one in 'dataset'" in refused(data=None)
    frozen = service.model(blocks=3, trainable=False)
    assert "the model cannot be" in refused(model=frozen)


def test_a_plan_of_a_search_says_what_is_refused(service: Service) -> None:
    body = {"model": service.model(), "objective": {"minimize": "latency"}}
    plan = service.http.post("/v1/jobs/plan", json=body).json()
    assert plan["ok"]
    assert plan["estimate"]["minutes"] == 30
    service.rejected_model()
    body["model"] = service.rejected_model()
    plan = service.http.post("/v1/jobs/plan", json=body).json()
    assert not plan["ok"]
