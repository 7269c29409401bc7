"""``/v1/jobs``: planned and submitted, or refused with the place of each fault."""

from typing import Any

import pytest
from sqlalchemy import select

from app.store.tables import JobRow, WebhookRow
from tests.app.service import DYNAMIC, Service, pointers

STATIC = [{"method": "quantize", "mode": "static"}]
FIELDS = {
    "id",
    "status",
    "stage",
    "progress",
    "model",
    "dataset",
    "name",
    "title",
    "tags",
    "steps",
    "objective",
    "search",
    "data",
    "measure",
    "parent",
    "evaluate",
    "require",
    "target",
    "deliver",
    "limits",
    "priority",
    "requires",
    "ruined",
    "seed",
    "created_at",
    "started_at",
    "finished_at",
    "attempts",
    "queue_position",
    "eta_seconds",
    "usage",
    "baseline",
    "compressed",
    "verdict",
    "artifacts",
    "step_reports",
}


def test_a_submitted_job_is_queued_with_every_default_filled_in(service: Service) -> None:
    model = service.model()
    job = service.job(
        model,
        name="mine",
        tags=["a", "b", "a"],
        seed=7,
        priority=-3,
        requires={"labels": ["big"]},
        limits={"pending_minutes": 0.5},
        require={"max_quality_drop": 0.01},
    )
    assert set(job) == FIELDS
    assert (job["status"], job["stage"], job["progress"]) == ("queued", "queued", 0)
    assert (job["model"], job["dataset"], job["name"]) == (model, None, "mine")
    assert (job["tags"], job["seed"], job["deliver"]) == (["a", "b"], 7, ["onnx"])
    assert job["limits"] == {"pending_minutes": 0.5, "running_minutes": 120}
    assert job["require"] == {"max_quality_drop": 0.01}
    assert (job["priority"], job["requires"]) == (-3, {"device": None, "labels": ["big"]})
    assert (job["attempts"], job["queue_position"], job["step_reports"]) == (0, 1, [])
    assert job["steps"][0]["mode"] == "dynamic"
    assert job["steps"][0]["per_channel"] is True
    assert service.http.get(f"/v1/jobs/{job['id']}").json() == job


def test_a_model_is_delivered_in_another_format_without_steps(service: Service) -> None:
    service.worker("openvino")
    body = {"model": service.model(), "steps": [], "deliver": ["openvino"]}
    assert service.http.post("/v1/jobs/plan", json=body).json()["ok"]
    made = service.http.post("/v1/jobs", json=body)
    assert made.status_code == 202, made.text
    assert made.json()["steps"] == []


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"model": "mdl_unknown"}, "#/model"),
        ({"dataset": "dst_unknown"}, "#/dataset"),
        ({"steps": STATIC}, "#/steps/0"),
        ({"steps": DYNAMIC * 2}, "#/steps/1"),
        ({"steps": [{"method": "quantize", "modus": 1}]}, "#/steps/0/modus"),
        ({"steps": [*DYNAMIC, {"method": "shrink"}]}, "#/steps/1/method"),
        ({"steps": [{"ratio": 0.5}]}, "#/steps/0/method"),
        ({"steps": [{"method": "quantize", "percentile": 1000}]}, "#/steps/0/percentile"),
        ({"steps": [{"method": "quantize", "operators": ["a", 1]}]}, "#/steps/0/operators/1"),
        ({"steps": []}, "#/steps"),
        ({"steps": None}, "#"),
        ({"objective": {"minimize": "size"}}, "#/objective"),
        ({"evaluate": {"metric": "top1"}}, "#/evaluate/metric"),
        ({"evaluate": {"output": "z"}}, "#/evaluate/output"),
        ({"evaluate": {"threshold": 0.5}}, "#/evaluate/threshold"),
        ({"evaluate": {"blank": 0}}, "#/evaluate/blank"),
        ({"evaluate": {"blank": -1}}, "#/evaluate/blank"),
        ({"evaluate": {"metric": "wer"}}, "#/evaluate/metric"),
        ({"limits": {"running_minutes": -1}}, "#/limits/running_minutes"),
        ({"seed": -1}, "#/seed"),
        ({"seed": "1"}, "#/seed"),
        ({"steps": [{"method": "quantize", "symmetric": 1}]}, "#/steps/0/symmetric"),
        ({"tags": ["x" * 65]}, "#/tags/0"),
        ({"deliver": ["caffe"]}, "#/deliver/0"),
        ({"webhook": {"url": "http://10.0.0.1/"}}, "#/webhook/url"),
        ({"target": "fridge"}, "#/target"),
        ({"a/b~c": 1}, "#/a~1b~0c"),
    ],
)
def test_a_fault_in_the_request_is_named_at_its_place(
    service: Service, change: dict[str, Any], pointer: str
) -> None:
    body = {"model": service.model(), "steps": DYNAMIC, **change}
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 422, answer.text
    assert pointers(answer) == [pointer]
    assert "expected tags" not in answer.text, "the words of a parser"
    plan = service.http.post("/v1/jobs/plan", json=body)
    refused = [each["pointer"] for each in plan.json().get("refused", [])]
    assert (refused or pointers(plan)) == [pointer], "a plan refuses what a job is refused for"
    assert not plan.json().get("ok")
    assert service.http.get("/v1/jobs").json()["items"] == []


def test_what_needs_no_model_is_refused_before_there_is_one(service: Service) -> None:
    body = {"model": "", "steps": DYNAMIC, "data": "generated"}
    wishes: list[tuple[dict[str, Any], list[str]]] = [
        ({}, []),
        ({"target": "fridge"}, ["#/target"]),
        ({"webhook": {"url": "http://10.0.0.1/"}}, ["#/webhook/url"]),
    ]
    for wish, faulty in wishes:
        answer = service.http.post("/v1/jobs/plan", json={**body, **wish})
        assert answer.status_code == 422, answer.text
        assert pointers(answer) == ["#/model", *faulty]
    wrong = {**body, "steps": [{"method": "shrink"}]}
    assert pointers(service.http.post("/v1/jobs/plan", json=wrong)) == ["#/steps/0/method"]


def test_another_tenants_model_is_as_unknown_as_none(service: Service) -> None:
    body = {"model": service.model(), "steps": DYNAMIC}
    for path in ("/v1/jobs", "/v1/jobs/plan"):
        answer = service.other.post(path, json=body)
        assert answer.status_code == 422
        assert pointers(answer) == ["#/model"]


def test_what_the_deployment_cannot_do_is_not_available(service: Service) -> None:
    model = service.model()
    half = [{"method": "quantize", "mode": "float16"}]
    target = {"model": model, "steps": half, "deliver": ["litert"]}
    answer = service.http.post("/v1/jobs", json=target)
    assert (answer.status_code, answer.json()["type"]) == (422, "not-available")
    service.worker("litert")
    assert service.http.post("/v1/jobs", json=target).status_code == 202


def test_the_name_of_a_format_as_a_target_has_it_delivered(service: Service) -> None:
    """``GET /v1/targets`` lists formats, and says that a job's target is one of what it lists."""
    service.worker("onnx")
    service.worker("openvino")
    listed = service.http.get("/v1/targets").json()["items"]
    body = {"model": service.model(), "steps": DYNAMIC}
    for item in listed:
        job = service.http.post("/v1/jobs", json={**body, "target": item["target"]}).json()
        assert job["deliver"] == [item["target"]]
    both = {**body, "target": "openvino", "deliver": ["onnx"]}
    assert service.http.post("/v1/jobs", json=both).json()["deliver"] == ["onnx", "openvino"]
    advice = f"/v1/models/{body['model']}/recommendations"
    assert service.http.get(advice, params={"target": "openvino"}).json()["items"]
    missing = service.http.get(advice, params={"target": "litert"})
    assert (missing.json()["type"], pointers(missing)) == ("not-available", ["#/query/target"])


def test_a_target_sets_what_the_request_leaves_open(service: Service) -> None:
    """It is checked before anything runs: formats, devices and their instruction sets."""
    model = service.model()
    body = {"model": model, "target": "mobile-litert", "steps": [{"method": "quantize"}]}
    body["dataset"] = service.dataset()
    service.worker("onnx")
    refused = service.http.post("/v1/jobs", json=body)
    assert refused.json()["type"] == "not-available"
    assert pointers(refused)[0] == "#/target"
    assert "planish tools install litert" in refused.json()["detail"]
    vnni = {**body, "target": "cpu-x86-vnni"}
    assert "vnni" in service.http.post("/v1/jobs", json=vnni).json()["detail"]
    service.worker("litert")
    job = service.http.post("/v1/jobs", json=body).json()
    assert (job["target"], job["deliver"]) == ("mobile-litert", ["litert", "onnx"])
    assert job["steps"][0]["activations"] == "int8"
    own = {"method": "quantize", "activations": "int16"}
    asked = {**body, "steps": [own], "deliver": ["onnx"]}
    job = service.http.post("/v1/jobs", json=asked).json()
    assert (job["steps"][0]["activations"], job["deliver"]) == ("int16", ["onnx"])
    cuts = [{"method": "prune"}, {"method": "prune", "multiple": 4}]
    plans = [
        service.http.post("/v1/jobs/plan", json={**body, "target": target, "steps": [step]}).json()
        for step in cuts
        for target in ("cuda", "mobile-litert")
    ]
    assert [plan["steps"][0]["multiple"] for plan in plans] == [16, None, 4, 4]
    offers = service.http.get("/v1/targets").json()["deployments"]
    lacking = {offer["target"]: offer["lacking"] for offer in offers}
    assert lacking["mobile-litert"] is None
    assert "openvino" in lacking["openvino-cpu"]


def test_weights_go_back_only_where_the_uploads_layers_are_left(service: Service) -> None:
    service.worker("source")
    zeros = {"method": "prune", "granularity": "unstructured"}
    body = {"model": service.model(), "deliver": ["source"], "steps": [zeros]}
    refused = service.http.post("/v1/jobs", json=body)
    assert pointers(refused) == ["#/deliver/0"]
    assert "uploaded as ONNX" in refused.json()["detail"]
    keras = service.model(format="keras")
    assert service.http.post("/v1/jobs", json={**body, "model": keras}).status_code == 202
    new = {"method": "distill", "student": {"architecture": "mlp"}}
    body |= {"model": keras, "dataset": service.dataset()}
    for step in ({"method": "low_rank"}, DYNAMIC[0], new):
        refused = service.http.post("/v1/jobs", json={**body, "steps": [step]})
        assert "weights of the upload's own layers" in refused.json()["detail"], step
    student = {"method": "distill", "student": {"model": keras}}
    steps = [{"method": "low_rank"}, student]
    assert service.http.post("/v1/jobs", json={**body, "steps": steps}).status_code == 202


def test_what_a_format_cannot_do_is_said_before_anything_runs(service: Service) -> None:
    service.worker("onnx")
    service.worker("litert")
    body = {"model": service.model(), "deliver": ["onnx", "litert"], "steps": DYNAMIC}
    refused = service.http.post("/v1/jobs", json=body)
    assert pointers(refused) == ["#/steps/0/mode"]
    body |= {"dataset": service.dataset(), "steps": [{"method": "quantize", "weights": "int4"}]}
    plan = service.http.post("/v1/jobs/plan", json=body).json()
    assert plan["ok"]
    told = " ".join(plan["warnings"])
    assert "'x' ['N', 3, 32, 32]" in told
    assert "each takes 8" in told


def test_a_dataset_that_does_not_fit_is_refused_with_the_reason(service: Service) -> None:
    model = service.model()
    misnamed = [{"name": "image", "dtype": "float32", "shape": [100, 3, 32, 32]}]
    dataset = service.dataset(arrays=misnamed)
    body = {"model": model, "dataset": dataset, "steps": STATIC}
    answer = service.http.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "dataset-mismatch")
    assert pointers(answer) == ["#/dataset"]
    plan = service.http.post("/v1/jobs/plan", json=body).json()
    assert plan["refused"][0]["reason"] in answer.json()["detail"]


@pytest.mark.parametrize(
    ("evaluate", "refused"),
    [
        ({"metric": "iou", "threshold": -2.5}, []),
        ({"metric": "r2"}, []),
        ({"metric": "top1", "threshold": 0.5}, ["#/evaluate/threshold"]),
        ({"metric": "iou", "blank": 1}, ["#/evaluate/blank"]),
        ({"metric": "cer", "blank": 1}, ["#/evaluate/metric"]),
        ({"metric": "cosine"}, ["#/evaluate/metric"]),
    ],
)
def test_metrics_and_their_parameters_are_checked_against_the_targets(
    service: Service, evaluate: dict[str, Any], refused: list[str]
) -> None:
    """The dataset's targets are one class for each sample."""
    body = {"model": service.model(), "dataset": service.dataset(), "steps": STATIC}
    plan = service.http.post("/v1/jobs/plan", json={**body, "evaluate": evaluate}).json()
    assert plan["ok"] == (not refused)
    answer = service.http.post("/v1/jobs", json={**body, "evaluate": evaluate})
    assert answer.status_code == (422 if refused else 202), answer.text
    assert refused == (pointers(answer) if refused else [])


def test_a_rejected_model_is_refused_with_its_problem(service: Service) -> None:
    body = {"model": service.rejected_model(), "steps": DYNAMIC}
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert pointers(answer) == ["#/model"]
    assert "It has no nodes." in answer.json()["detail"]


def test_a_plan_resolves_estimates_and_names_what_is_skipped(service: Service) -> None:
    body = {"model": service.model(), "dataset": service.dataset(), "steps": DYNAMIC}
    plan = service.http.post("/v1/jobs/plan", json=body).json()
    assert plan["ok"] is True
    assert plan["refused"] == []
    assert plan["steps"][0]["weights"] == "int8"
    assert [(skip["index"], skip["node"]) for skip in plan["skipped"]] == [(0, "conv")]
    assert plan["estimate"]["macs"] == 500_000
    assert plan["estimate"]["size_bytes"] > 0
    assert plan["estimate"]["minutes"] > 0
    assert service.http.get("/v1/jobs").json()["items"] == []


def test_a_plan_that_is_not_ok_says_why_and_the_job_is_refused_alike(service: Service) -> None:
    body = {"model": service.model(), "steps": DYNAMIC * 2}
    answer = service.http.post("/v1/jobs/plan", json=body)
    assert answer.status_code == 200
    plan = answer.json()
    assert plan["ok"] is False
    assert [refusal["index"] for refusal in plan["refused"]] == [1]
    assert plan["refused"][0]["reason"] == service.http.post("/v1/jobs", json=body).json()["detail"]


def test_what_is_still_inspected_is_waited_for(service: Service) -> None:
    model = service.http.post("/v1/models", content=b"model").json()["id"]
    dataset = service.http.post("/v1/datasets", content=b"data").json()["id"]
    body = {"model": model, "dataset": dataset, "steps": STATIC}
    plan = service.http.post("/v1/jobs/plan", json=body).json()
    assert plan["ok"] is True
    assert len(plan["warnings"]) == 2
    assert plan["estimate"] == {"size_bytes": None, "macs": None, "minutes": None}
    assert service.http.post("/v1/jobs", json=body).status_code == 202


def test_a_one_off_webhook_shows_the_secret_that_was_made_once(service: Service) -> None:
    url = {"url": "https://example.com/hook"}
    made = service.job(webhook=url)
    assert made["webhook"]["secret"].startswith("whsec_")
    assert "webhook" not in service.http.get(f"/v1/jobs/{made['id']}").json()
    deliveries = service.http.get(f"/v1/webhooks/{made['webhook']['id']}/deliveries")
    assert deliveries.json() == {"items": [], "next_cursor": None}
    own = "whsec_" + "YQ" * 16
    assert set(service.job(webhook={**url, "secret": own})["webhook"]) == {"id"}
    assert "webhook" not in service.job()
    with service.store() as session:
        hook = session.scalars(select(WebhookRow).where(WebhookRow.job_id == made["id"])).one()
        assert hook.secret == made["webhook"]["secret"]
        assert made["webhook"]["secret"] not in str(session.get_one(JobRow, made["id"]).request)
