"""Steps that train, and models that cannot be trained."""

from typing import Any

import pytest

from tests.app.service import Service

OBSTACLE = {"node": "/twist", "reason": "it runs without gradient: nothing trains a Twist"}
TRAINS = {"method": "prune", "sparsity": 0.5, "granularity": "unstructured", "recover": {}}
KEEPS = {key: value for key, value in TRAINS.items() if key != "recover"}


def test_a_model_says_whether_it_can_be_trained_and_why_not(service: Service) -> None:
    model = service.model(trainable=False, untrainable=[OBSTACLE])
    shown = service.http.get(f"/v1/models/{model}").json()
    assert shown["trainable"] is False
    assert shown["untrainable"] == [OBSTACLE]


def test_a_step_that_trains_is_refused_with_the_node_in_its_way(service: Service) -> None:
    model, dataset = service.model(trainable=False, untrainable=[OBSTACLE]), service.dataset()
    body = {"model": model, "dataset": dataset, "steps": [TRAINS]}
    plan = service.http.post("/v1/jobs/plan", json=body).json()
    assert not plan["ok"]
    [refused] = plan["refused"]
    assert (refused["index"], refused["pointer"]) == (0, "#/steps/0")
    assert "/twist" in refused["reason"]
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert "Leave 'recover' out" in answer.json()["detail"]
    without = service.http.post("/v1/jobs/plan", json={**body, "steps": [KEEPS]}).json()
    assert without["ok"], without


@pytest.mark.parametrize("known", [{}, {"trainable": None}, {"trainable": True}])
def test_a_model_that_nobody_looked_at_may_be_trained(
    service: Service, known: dict[str, Any]
) -> None:
    """Descriptions from before this was asked stay good."""
    body = {"model": service.model(**known), "dataset": service.dataset(), "steps": [TRAINS]}
    plan = service.http.post("/v1/jobs/plan", json=body).json()
    assert plan["ok"], plan


def test_a_model_that_is_quantized_already_is_to_be_uploaded_as_it_was_before(
    service: Service,
) -> None:
    quantized = service.model(trainable=False, untrainable=[OBSTACLE], operators={"QLinearConv": 2})
    body = {"model": quantized, "dataset": service.dataset(), "steps": [TRAINS]}
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert "(it holds QLinearConv): upload it as it was before" in answer.json()["detail"]
