"""``/v1/jobs``: planned, submitted, ranked, listed, cancelled, retried, deleted."""

from typing import Any

import pytest
from sqlalchemy import select

from app.store.tables import EventRow, JobRow, WebhookRow
from tests.app.service import DYNAMIC, STEP_REPORT, Service, pointers

STATIC = [{"method": "quantize", "mode": "static"}]
FIELDS = {
    "id",
    "status",
    "stage",
    "progress",
    "model",
    "dataset",
    "name",
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
    assert service.http.get("/v1/jobs").json()["items"] == []


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


def test_a_quota_bounds_the_active_jobs(service: Service) -> None:
    model = service.model()
    first, *_ = (service.job(model)["id"] for _ in range(5))
    body = {"model": model, "steps": DYNAMIC}
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    service.http.post(f"/v1/jobs/{first}/cancel")
    assert service.http.post("/v1/jobs", json=body).status_code == 202
    assert service.http.post(f"/v1/jobs/{first}/retry").status_code == 429, "it would be one more"


def test_queue_positions_count_the_tenants_own_jobs(service: Service) -> None:
    model = service.model()
    jobs = [service.job(model)["id"] for _ in range(2)]
    foreign = service.other.post("/v1/models", content=b"m").json()["id"]
    body = {"model": foreign, "steps": DYNAMIC}
    between = service.other.post("/v1/jobs", json=body).json()["id"]
    jobs.append(service.job(model)["id"])
    listed = service.http.get("/v1/jobs").json()["items"]
    assert [(job["id"], job["queue_position"]) for job in listed] == [
        (jobs[2], 3),
        (jobs[1], 2),
        (jobs[0], 1),
    ]
    service.start(jobs[0])
    assert service.http.get(f"/v1/jobs/{jobs[0]}").json()["queue_position"] is None
    assert service.other.get(f"/v1/jobs/{between}").json()["queue_position"] == 1


def test_jobs_are_listed_by_state_model_and_tag_without_step_reports(service: Service) -> None:
    one, two = service.model(), service.model()
    first = service.job(one, tags=["red"])["id"]
    second = service.job(two, tags=["blue", "red"])["id"]
    service.finish(first)

    def listed(**params: str) -> list[str]:
        items = service.http.get("/v1/jobs", params=params).json()["items"]
        assert all("step_reports" not in item for item in items)
        return [item["id"] for item in items]

    assert listed() == [second, first]
    assert listed(status="succeeded") == [first]
    assert listed(model=two) == [second]
    assert listed(tag="red") == [second, first]
    assert listed(tag="red", status="queued") == [second]
    assert service.http.get("/v1/jobs?status=lost").status_code == 422


def test_a_finished_job_has_its_figures_and_artifacts(service: Service) -> None:
    job = service.job()["id"]
    artifact = service.finish(job)
    view = service.http.get(f"/v1/jobs/{job}").json()
    assert (view["status"], view["progress"], view["verdict"]) == ("succeeded", 1, "3 times faster")
    assert view["step_reports"] == [STEP_REPORT | view["step_reports"][0]]
    assert "problem" not in view
    [shown] = view["artifacts"]
    assert shown["id"] == artifact
    assert shown["href"] == f"/v1/artifacts/{artifact}/content"
    assert service.http.get(f"/v1/jobs/{job}/artifacts").json()["items"] == [shown]


def test_cancelling_ends_a_queued_job_and_asks_a_running_one(service: Service) -> None:
    queued, running = service.job()["id"], service.job()["id"]
    service.start(running)
    answer = service.http.post(f"/v1/jobs/{queued}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert answer.json()["finished_at"] is not None
    assert service.http.post(f"/v1/jobs/{queued}/cancel").status_code == 409
    answer = service.http.post(f"/v1/jobs/{running}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    with service.store() as session:
        assert session.get_one(JobRow, running).cancel_requested
        states = session.scalars(
            select(EventRow).where(EventRow.job_id == queued).order_by(EventRow.number)
        )
        assert [event.data["status"] for event in states] == ["queued", "cancelled"]


def test_a_retry_queues_the_same_job_and_counts_on(service: Service) -> None:
    job = service.job()["id"]
    assert service.http.post(f"/v1/jobs/{job}/retry").status_code == 409
    service.start(job)
    service.finish(job, failed=True)
    failed = service.http.get(f"/v1/jobs/{job}").json()
    assert failed["problem"]["type"] == "quality-below-requirement"
    assert len(failed["artifacts"]) == 1
    answer = service.http.post(f"/v1/jobs/{job}/retry")
    assert answer.status_code == 202
    again = answer.json()
    assert (again["id"], again["status"], again["attempts"]) == (job, "queued", 1)
    assert "problem" not in again
    assert again["finished_at"] is None
    assert again["queue_position"] == 1
    assert len(again["step_reports"]) == 1


def test_a_job_whose_model_is_gone_cannot_be_retried(service: Service) -> None:
    model = service.model()
    job = service.job(model)["id"]
    service.http.post(f"/v1/jobs/{job}/cancel")
    service.http.delete(f"/v1/models/{model}")
    answer = service.http.post(f"/v1/jobs/{job}/retry")
    assert answer.status_code == 409
    assert "deleted" in answer.json()["detail"]


def test_only_a_finished_job_is_deleted_with_its_artifacts(service: Service) -> None:
    job = service.job()["id"]
    assert service.http.delete(f"/v1/jobs/{job}").status_code == 409
    service.start(job)
    assert service.http.delete(f"/v1/jobs/{job}").status_code == 409
    artifact = service.finish(job)
    assert service.http.delete(f"/v1/jobs/{job}").status_code == 204
    for path in (f"/v1/jobs/{job}", f"/v1/artifacts/{artifact}/content"):
        assert service.http.get(path).status_code == 404


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


def test_methods_have_a_schema_with_a_default_for_every_property(service: Service) -> None:
    methods = service.http.get("/v1/methods").json()["items"]
    named = {method["method"] for method in methods}
    assert named >= {"cluster", "low_rank", "prune", "quantize"}
    for method in methods:
        assert set(method) == {"method", "title", "description", "schema", "needs", "provides"}
        properties = method["schema"]["properties"]
        assert properties["method"]["const"] == method["method"]
        assert all("default" in parameter for parameter in properties.values())
        assert set(method["needs"]) == {"data", "trainable"}


def test_targets_are_what_workers_announced(service: Service) -> None:
    assert service.http.get("/v1/targets").json()["items"] == []
    service.worker("onnx")
    service.worker("onnx")
    [target] = service.http.get("/v1/targets").json()["items"]
    assert set(target) == {"target", "runtime", "version", "devices", "accelerates"}
    assert [device["name"] for device in target["devices"]] == ["cpu"]
