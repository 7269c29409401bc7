"""What makes no sense is refused before anything runs, with what to do; what does is planned."""

from typing import Any

import pytest

from tests.app.service import Service, pointers

Steps = list[dict[str, Any]]

TRAINING: dict[str, Any] = {"epochs": 2}
CHANNELS: dict[str, Any] = {"method": "prune", "ratio": 0.3}
ZEROS: dict[str, Any] = {"method": "prune", "granularity": "unstructured", "sparsity": 0.6}
THINNER: dict[str, Any] = {"method": "low_rank", "ratio": 0.2}
SHARED: dict[str, Any] = {"method": "cluster"}
STATIC: dict[str, Any] = {"method": "quantize", "mode": "static"}
DYNAMIC: dict[str, Any] = {"method": "quantize", "mode": "dynamic"}
PACKED: dict[str, Any] = {"method": "quantize", "mode": "weight_only", "weights": "int4"}
TRAINED: dict[str, Any] = {"method": "quantize", "mode": "qat", "recover": TRAINING}
LABELS: dict[str, Any] = {"recover": {"loss": "labels"}}

ORDERS: list[tuple[Steps, str, str]] = [
    ([DYNAMIC, CHANNELS], "#/steps/1", "put it before step 1"),
    ([DYNAMIC, THINNER], "#/steps/1", "put it before step 1"),
    ([DYNAMIC, SHARED], "#/steps/1", "leave one of them out"),
    ([DYNAMIC, STATIC], "#/steps/1", "leave one of them out"),
    ([SHARED, DYNAMIC], "#/steps/1", "leave one of them out"),
    ([SHARED, CHANNELS], "#/steps/1", "put it before step 1"),
    ([SHARED, THINNER], "#/steps/1", "put it before step 1"),
    ([SHARED, SHARED], "#/steps/1", "leave one of them out"),
    ([ZEROS, THINNER], "#/steps/1", "put it before step 1"),
    ([CHANNELS, DYNAMIC, SHARED], "#/steps/2", "cannot follow step 2"),
]
"""Steps of which the last cannot follow another, where that is said, and what is said."""

PARAMETERS: list[tuple[Steps, str, str]] = [
    ([{"ratio": 0.5}], "#/steps/0/method", "is required"),
    ([{"method": "melt"}], "#/steps/0/method", "must be one of 'cluster', "),
    ([PACKED | {"weights": "int3"}], "#/steps/0", "int4 or int8"),
    ([STATIC | {"recover": TRAINING}], "#/steps/0", "use mode 'qat'"),
    ([CHANNELS | {"schedule": "iterative"}], "#/steps/0", "add 'recover'"),
    ([ZEROS | {"schedule": "polynomial"}], "#/steps/0", "add 'recover'"),
    ([ZEROS | {"criterion": "fpgm"}], "#/steps/0", "granularity 'channel'"),
    ([{"method": "prune", "granularity": "n:m", "n": 4, "m": 4}], "#/steps/0", "less than m"),
    ([CHANNELS, SHARED | {"clusters": 1}], "#/steps/1/clusters", "must be 2 or more"),
    ([THINNER | {"recover": {"epochs": 0}}], "#/steps/0/recover/epochs", "must be 1 or more"),
    (
        [ZEROS | {"schedule": "polynomial", "initial_sparsity": 0.7, "recover": TRAINING}],
        "#/steps/0",
        "'initial_sparsity' must be less",
    ),
]
"""Parameters that contradict themselves or each other."""

WITHOUT_DATA: Steps = [
    STATIC,
    TRAINED,
    PACKED | {"algorithm": "gptq"},
    CHANNELS | {"criterion": "taylor"},
    CHANNELS | {"criterion": "apoz"},
    CHANNELS | {"recover": TRAINING},
    THINNER | {"recover": TRAINING},
    SHARED | {"recover": TRAINING},
]
"""Steps that look at data."""

FLOATS = {"dtype": "float32", "shape": [512, 1], "classes": None}

SENSIBLE: list[Steps] = [
    [CHANNELS | {"recover": TRAINING}, THINNER, TRAINED],
    [CHANNELS | {"criterion": "taylor"}, STATIC],
    [CHANNELS, CHANNELS, DYNAMIC],
    [CHANNELS, ZEROS, SHARED],
    [ZEROS, SHARED],
    [ZEROS | {"schedule": "polynomial", "recover": TRAINING}, TRAINED],
    [THINNER, CHANNELS, SHARED],
    [THINNER, ZEROS, STATIC],
    [THINNER, PACKED],
    [ZEROS | LABELS],
]
"""Orders that each gain something from the step before."""


def _body(service: Service) -> dict[str, Any]:
    return {"model": service.model(), "dataset": service.dataset()}


def _refused(service: Service, body: dict[str, Any], steps: Steps) -> tuple[str, str]:
    """Return where and why a plan refuses these steps; a job is refused alike."""
    plan = service.http.post("/v1/jobs/plan", json={**body, "steps": steps})
    assert plan.status_code == 200, (steps, plan.text)
    assert not plan.json()["ok"], steps
    [refusal] = plan.json()["refused"]
    assert refusal["index"] == len(steps) - 1
    answer = service.http.post("/v1/jobs", json={**body, "steps": steps})
    assert (answer.status_code, answer.json()["type"]) == (422, "invalid"), (steps, answer.text)
    assert answer.json()["detail"] == refusal["reason"]
    assert pointers(answer) == [refusal["pointer"]]
    return refusal["pointer"], refusal["reason"]


def test_a_step_that_cannot_follow_another_is_refused_with_what_to_do(service: Service) -> None:
    body = _body(service)
    for steps, pointer, words in ORDERS:
        where, why = _refused(service, body, steps)
        assert where == pointer, steps
        assert words in why, (steps, why)
    assert service.http.get("/v1/jobs").json()["items"] == []


def test_parameters_that_contradict_each_other_are_refused_alike(service: Service) -> None:
    body = _body(service)
    for steps, pointer, words in PARAMETERS:
        for path in ("/v1/jobs/plan", "/v1/jobs"):
            answer = service.http.post(path, json={**body, "steps": steps})
            assert (answer.status_code, answer.json()["type"]) == (422, "invalid"), steps
            assert pointers(answer) == [pointer], (steps, answer.text)
            assert words in answer.json()["errors"][0]["detail"], (steps, answer.text)
    assert service.http.get("/v1/jobs").json()["items"] == []


def test_a_step_that_looks_at_data_is_refused_without(service: Service) -> None:
    body = {"model": service.model()}
    for step in WITHOUT_DATA:
        where, why = _refused(service, body, [step])
        assert where == "#/steps/0", step
        assert "needs a dataset" in why, (step, why)


def test_labels_are_refused_where_there_are_none(service: Service) -> None:
    unlabelled = {"model": service.model(), "dataset": service.dataset(targets=None)}
    without = {"model": unlabelled["model"]}
    for step in (CHANNELS, ZEROS, THINNER, SHARED, TRAINED):
        for body in (unlabelled, without):
            where, why = _refused(service, body, [step | LABELS])
            assert where == "#/steps/0", step
            assert "dataset with targets" in why, (step, why)


def test_orders_that_make_sense_are_planned_with_every_default(service: Service) -> None:
    body = _body(service)
    fields = {
        method["method"]: set(method["schema"]["properties"])
        for method in service.http.get("/v1/methods").json()["items"]
    }
    for steps in SENSIBLE:
        plan = service.http.post("/v1/jobs/plan", json={**body, "steps": steps}).json()
        assert plan["ok"], (steps, plan)
        assert plan["estimate"]["size_bytes"] > 0
        for asked, planned in zip(steps, plan["steps"], strict=True):
            assert set(planned) == fields[planned["method"]]
            given = {name: planned[name] for name in asked if name != "recover"}
            assert given == {name: asked[name] for name in given}
            if asked.get("recover"):
                assert planned["recover"].items() >= asked["recover"].items()
                assert {"epochs", "minutes", "optimizer", "augment"} <= set(planned["recover"])


@pytest.mark.parametrize("steps", [SENSIBLE[0], SENSIBLE[4]], ids=["qat", "cluster"])
def test_what_a_plan_accepts_is_queued_as_it_was_planned(service: Service, steps: Steps) -> None:
    body = {**_body(service), "steps": steps}
    plan = service.http.post("/v1/jobs/plan", json=body).json()
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["steps"] == plan["steps"]


def test_steps_that_will_change_nothing_are_warned_of(service: Service) -> None:
    body = _body(service)

    def warnings(*steps: dict[str, Any], model: str | None = None) -> list[str]:
        asked = {**body, "model": model or body["model"], "steps": steps}
        plan = service.http.post("/v1/jobs/plan", json=asked).json()
        assert plan["ok"], plan
        return [warning for warning in plan["warnings"] if "nothing" in warning]

    assert warnings(CHANNELS, DYNAMIC) == []
    for step in (CHANNELS, ZEROS, THINNER, SHARED, STATIC, DYNAMIC):
        [warning] = warnings({**step, "ignore": ["*"]})
        assert warning.startswith(f"Step 1 ({step['method']}) will change nothing: ")
        assert "named in 'ignore'" in warning
    [warning] = warnings(CHANNELS, {**DYNAMIC, "ignore": ["fc"]})
    assert warning.startswith("Step 2 (quantize) will change nothing: ")
    operators = {"QLinearConv": 1, "QuantizeLinear": 1, "Relu": 2}
    [warning] = warnings(STATIC, model=service.model(operators=operators))
    assert "quantized already (it holds QLinearConv, QuantizeLinear)" in warning
    [warning] = warnings(STATIC, model=service.model(layers=[]))
    assert "no layer with weights" in warning


def test_what_is_hardly_meant_is_doubted_at_its_place(service: Service) -> None:
    classes, numbers = service.dataset(), service.dataset(b"numbers" * 20, targets=FLOATS)
    model = service.model()

    def doubts(**asked: Any) -> dict[str, str]:
        body = {"model": model, "dataset": classes, "steps": [STATIC], **asked}
        plan = service.http.post("/v1/jobs/plan", json=body).json()
        assert plan["ok"], plan
        assert {doubt["reason"] for doubt in plan["doubts"]} <= {*plan["warnings"]}
        return {doubt["pointer"]: doubt["reason"] for doubt in plan["doubts"]}

    loose = {"require": {"max_quality_drop": 5}}
    assert "Write 0.05 for 5 %." in doubts(**loose)["#/require/max_quality_drop"]
    assert doubts(**loose, dataset=None, steps=[DYNAMIC]) != {}
    assert doubts(**loose, dataset=numbers) == {}, "an error may grow to any multiple"
    assert doubts(**loose, dataset=numbers, evaluate={"metric": "r2"}) != {}
    assert doubts(require={"max_quality_drop": 0.5}) == {}
    search = {"minimize": "size", "subject_to": {"max_quality_drop": 1}}
    assert [*doubts(steps=None, objective=search)] == ["#/objective/subject_to/max_quality_drop"]
    named = {**STATIC, "ignore": ["conv", "no*"], "operators": ["Conv", "Foo"]}
    found = doubts(steps=[named])
    assert "is called 'no*', as 'ignore'" in found["#/steps/0/ignore"]
    assert "has no operator 'Foo'" in found["#/steps/0/operators"]


def test_a_step_that_chooses_says_what_it_cannot_give_without_data(service: Service) -> None:
    body = {"model": service.model(), "steps": [{"method": "quantize"}]}
    for data, told in (({}, True), ({"data": "generated"}, False)):
        plan = service.http.post("/v1/jobs/plan", json={**body, **data}).json()
        assert any("the model no faster" in each for each in plan["warnings"]) == told


def test_a_plan_warns_where_no_worker_has_what_is_required(service: Service) -> None:
    service.worker("onnx")
    body = {"model": service.model(), "steps": [DYNAMIC]}
    for requires, lacking in (
        ({"device": "cpu"}, None),
        ({"device": "cuda"}, "the device 'cuda'"),
        ({"device": "cpu", "labels": ["big"]}, "the device 'cpu' and the label 'big'"),
    ):
        plan = service.http.post("/v1/jobs/plan", json={**body, "requires": requires}).json()
        assert plan["ok"]
        warned = [warning for warning in plan["warnings"] if "No worker" in warning]
        assert [lacking in warning for warning in warned if lacking] == [True] * bool(lacking)
        assert bool(warned) == bool(lacking)


def test_what_a_format_cannot_do_is_said_before_the_job_runs(service: Service) -> None:
    formats = ["litert_micro", "coreml", "pt2"]
    for name in formats:
        service.worker(name)

    def warned(model: str, *steps: dict[str, Any]) -> str:
        body = {"model": model, "dataset": service.dataset(), "steps": steps, "deliver": formats}
        return " ".join(service.http.post("/v1/jobs/plan", json=body).json()["warnings"])

    plain = service.model()
    assert "'litert_micro' computes in float" in warned(plain)
    assert "'litert_micro' computes in float" not in warned(plain, STATIC)
    assert "fewer than 8 bits" in warned(plain, {**STATIC, "weights": "int4"})
    assert "leaves out what" not in warned(plain, STATIC)
    left_out = "leaves out what 'litert_micro', 'coreml', 'pt2' cannot hold: integers with ranges"
    assert left_out in warned(plain, {"method": "quantize"})
    told = warned(service.model(operators={"LSTM": 1, "NonZero": 2, "Gelu": 1}))
    assert "NonZero depend on values" in told
    assert "'coreml' has nothing for LSTM" in told
    assert "'litert_micro' has nothing for Gelu" in told
    assert "torch has nothing like 'boxes' (RoiAlign)" in warned(
        service.model(untranslated=["'boxes' (RoiAlign)"])
    )
