"""A metric as an ONNX graph: what is asked, what is refused, what is waited for."""

from typing import Any

from app.domain.models import ModelDescription
from app.store import claims, inspections, leases, turns
from app.store.tables import JobRow, ModelRow
from tests.app.claiming import claim_job
from tests.app.service import DYNAMIC, MODEL, Service, pointers

AT = "#/evaluate/metric/model"


def spec(name: str, dtype: str, *shape: int | str) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape)}


Y, TARGETS = spec("y", "float32", "N", 10), spec("targets", "int64", "N")
ORIGINAL, NUMBER = spec("reference.y", "float64", "N", "C"), spec("number", "float32", "N")


def metric(service: Service, *inputs: dict[str, Any], outputs: Any = (NUMBER,)) -> str:
    return service.model(inputs=list(inputs), outputs=list(outputs), layers=[])


def body(service: Service, metric_id: str, **evaluate: Any) -> dict[str, Any]:
    return {
        "model": service.model(),
        "dataset": service.dataset(),
        "steps": DYNAMIC,
        "evaluate": {"metric": {"model": metric_id}, **evaluate},
    }


def refused(service: Service, asked: dict[str, Any]) -> tuple[str, str]:
    """Return the place and the words of the one refusal; the plan refuses alike."""
    plan = service.http.post("/v1/jobs/plan", json=asked).json()
    answer = service.http.post("/v1/jobs", json=asked)
    assert (answer.status_code, answer.json()["type"]) == (422, "invalid"), answer.text
    [error] = answer.json()["errors"]
    assert [(each["pointer"], each["reason"]) for each in plan["refused"]] == [
        (error["pointer"], error["detail"])
    ]
    return error["pointer"], error["detail"]


def test_a_metric_may_read_outputs_targets_and_the_original_s_outputs(service: Service) -> None:
    for inputs in ([Y], [Y, TARGETS], [ORIGINAL, Y], [TARGETS, ORIGINAL], []):
        asked = body(service, metric(service, *inputs), higher_is_better=False)
        plan = service.http.post("/v1/jobs/plan", json=asked).json()
        assert plan["ok"], (inputs, plan)
    answer = service.http.post("/v1/jobs", json=asked)
    assert answer.status_code == 202, answer.text
    assert answer.json()["evaluate"]["metric"] == asked["evaluate"]["metric"]
    assert answer.json()["evaluate"]["higher_is_better"] is False
    with service.store.begin() as session:
        claimed = claim_job(session, answer.json()["id"], "a worker", 60)
        assert claimed is not None
        row = session.get_one(ModelRow, asked["evaluate"]["metric"]["model"])
        assert claimed.metric_sha256 == row.onnx_sha256
        assert claimed.other_models == {}


def test_a_metric_that_does_not_fit_is_refused_with_what_to_do(service: Service) -> None:
    cases = [
        (
            [spec("z", "float32", "N")],
            (NUMBER,),
            "'z'. Call the input y, targ",
        ),
        (
            [spec("reference.z", "float32", "N")],
            (NUMBER,),
            "no array of the name of its input 'reference.z'",
        ),
        ([spec("y", "int64", "N", 10)], (NUMBER,), "Output 'y' is float32"),
        ([spec("y", "str", "N", 10)], (NUMBER,), "reads str"),
        ([spec("y", "float32", "N", 9)], (NUMBER,), "reads [N, 9]"),
        ([spec("y", "float32", "N")], (NUMBER,), "is [N, 10], and its input 'y' reads [N]"),
        ([spec("targets", "int64", "N", 2)], (NUMBER,), "reads [N, 2]"),
        ([Y], (NUMBER, NUMBER), "It has 2 outputs: give it one"),
        ([Y], (spec("word", "str", "N"),), "let it give numbers"),
    ]
    for inputs, outputs, words in cases:
        where, why = refused(service, body(service, metric(service, *inputs, outputs=outputs)))
        assert where == AT
        assert words in why, why


def test_a_metric_without_what_it_reads_is_refused(service: Service) -> None:
    asked = body(service, metric(service, Y, TARGETS))
    where, why = refused(service, {**asked, "dataset": service.dataset(targets=None)})
    assert (where, "the dataset has none" in why) == (AT, True)
    where, why = refused(service, {**asked, "dataset": None})
    assert (where, "needs a dataset" in why) == ("#/evaluate/metric", True)
    unlabelled = {**body(service, metric(service, Y, ORIGINAL))}
    unlabelled["dataset"] = service.dataset(targets=None)
    plan = service.http.post("/v1/jobs/plan", json=unlabelled).json()
    assert plan["ok"], plan
    assert plan["warnings"] == []


def test_which_way_is_better_is_not_asked_of_a_metric_with_a_name(service: Service) -> None:
    asked = {**body(service, ""), "evaluate": {"metric": "mse", "higher_is_better": False}}
    where, why = refused(service, asked)
    assert where == "#/evaluate/higher_is_better"
    assert "leave 'higher_is_better' out" in why
    asked = body(service, metric(service, Y), threshold=0.5)
    assert refused(service, asked)[0] == "#/evaluate/threshold"


def test_what_is_no_metric_is_refused_at_its_place(service: Service) -> None:
    foreign = service.other.post("/v1/models", content=b"theirs").json()["id"]
    for given, pointer in (
        ({"model": foreign}, AT),
        ({"model": "mdl_unknown"}, AT),
        ({"model": "no id"}, AT),
        ({"model": foreign, "more": 1}, "#/evaluate/metric/more"),
        ("worst", "#/evaluate/metric"),
        (7, "#/evaluate/metric"),
    ):
        asked = {**body(service, ""), "evaluate": {"metric": given}}
        for path in ("/v1/jobs/plan", "/v1/jobs"):
            answer = service.http.post(path, json=asked)
            assert answer.status_code == 422, (given, answer.text)
            assert pointer in pointers(answer), (given, answer.text)
    asked = body(service, service.rejected_model())
    where, why = refused(service, asked)
    assert (where, "It has no nodes." in why) == (AT, True)


def test_a_job_waits_while_its_metric_is_inspected_and_keeps_it(service: Service) -> None:
    unready = service.http.post("/v1/models", content=b"slow").json()["id"]
    asked = body(service, unready)
    plan = service.http.post("/v1/jobs/plan", json=asked).json()
    assert plan["ok"], plan
    assert any(unready in warning for warning in plan["warnings"])
    job = service.http.post("/v1/jobs", json=asked).json()["id"]
    answer = service.http.delete(f"/v1/models/{unready}")
    assert (answer.status_code, job in answer.json()["detail"]) == (409, True)
    with service.store.begin() as session:
        assert turns.next_job(session, claims.WorkerOffer("cpu"), {}) is None
        claimed = inspections.claim(session, ModelRow, unready, "a worker", 60)
        assert claimed is not None
        misfit = ModelDescription.model_validate({**MODEL, "inputs": [spec("z", "float32", "N")]})
        row = session.get_one(ModelRow, unready)
        row.status, row.description = "ready", misfit.model_dump(mode="json")
        row.onnx_sha256 = row.graph_sha256 = row.sha256
        leases.release(row)
    with service.store.begin() as session:
        assert turns.next_job(session, claims.WorkerOffer("cpu"), {}) == job
        assert claim_job(session, job, "a worker", 60) is None
        problem = session.get_one(JobRow, job).problem
    assert problem is not None
    assert problem["type"] == "metric-failed"
    assert "'z'" in problem["detail"]
    assert service.http.delete(f"/v1/models/{unready}").status_code == 204
    answer = service.http.post(f"/v1/jobs/{job}/retry")
    assert (answer.status_code, unready in answer.json()["detail"]) == (409, True)
