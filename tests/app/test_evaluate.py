"""A dataset of its own for the verdict: what is asked, what is refused, what is waited for."""

from typing import Any

import pytest

from app.domain.datasets import DatasetDescription
from app.domain.problems import InvalidDataset
from app.store import claims, inspections, turns
from app.store.tables import DatasetRow, JobRow
from tests.app.claiming import claim_job
from tests.app.service import DATASET, DYNAMIC, Service, pointers

STATIC = [{"method": "quantize", "mode": "static"}]
OWN, ANOTHER = b"the job's own", b"another"
AT = "#/evaluate/dataset"


def _body(service: Service, **more: Any) -> dict[str, Any]:
    return {
        "model": service.model(),
        "dataset": service.dataset(OWN),
        "steps": STATIC,
        "evaluate": {"dataset": service.dataset(ANOTHER)},
        **more,
    }


def _refused(service: Service, body: dict[str, Any]) -> tuple[str, str, str]:
    """Return the kind, the place and the words of a refusal; the plan refuses alike."""
    plan = service.http.post("/v1/jobs/plan", json=body).json()
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 422, answer.text
    [error] = answer.json()["errors"]
    assert plan["ok"] is False
    assert [error] == [
        {"pointer": each["pointer"], "detail": each["reason"]} for each in plan["refused"]
    ]
    return answer.json()["type"], error["pointer"], error["detail"]


def test_a_job_is_judged_on_the_dataset_that_it_names_for_that(service: Service) -> None:
    body = _body(service)
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["evaluate"]["dataset"] == body["evaluate"]["dataset"]
    with service.store.begin() as session:
        claimed = claim_job(session, answer.json()["id"], "a worker", 60)
        assert claimed is not None
        digests = {
            pointer: session.get_one(DatasetRow, named).sha256
            for pointer, named in claimed.request.datasets.items()
        }
    assert claimed.dataset is not None
    assert claimed.evaluate_dataset is not None
    assert digests == {
        "#/dataset": claimed.dataset.sha256,
        AT: claimed.evaluate_dataset.sha256,
    }
    assert claimed.dataset.sha256 != claimed.evaluate_dataset.sha256


def test_a_job_without_data_of_its_own_may_be_judged_on_a_dataset(service: Service) -> None:
    body = _body(service, dataset=None, steps=DYNAMIC)
    plan = service.http.post("/v1/jobs/plan", json=body).json()
    assert plan["ok"], plan
    assert plan["warnings"] == []
    assert service.http.post("/v1/jobs", json=body).status_code == 202
    kind, where, why = _refused(service, {**body, "steps": STATIC})
    assert (kind, where) == ("invalid", "#/steps/0"), "what is judged on calibrates nothing"
    assert "needs a dataset" in why


def test_an_unknown_or_foreign_dataset_is_refused(service: Service) -> None:
    foreign = service.other.post("/v1/datasets", content=b"theirs").json()["id"]
    for unknown in (foreign, "dst_unknown"):
        body = _body(service, evaluate={"dataset": unknown})
        for path in ("/v1/jobs/plan", "/v1/jobs"):
            answer = service.http.post(path, json=body)
            assert (answer.status_code, pointers(answer)) == (422, [AT])
            assert unknown in answer.json()["detail"]


def test_the_job_s_own_bytes_are_no_dataset_to_judge_on(service: Service) -> None:
    kind, where, why = _refused(service, _body(service, evaluate={"dataset": service.dataset(OWN)}))
    assert (kind, where) == ("invalid", AT)
    assert "name another" in why


def test_a_dataset_to_judge_on_fits_model_and_classes(service: Service) -> None:
    misnamed = [{"name": "image", "dtype": "float32", "shape": [100, 3, 32, 32]}]
    other = service.dataset(ANOTHER, arrays=misnamed)
    kind, where, why = _refused(service, _body(service, evaluate={"dataset": other}))
    assert (kind, where) == ("dataset-mismatch", AT)
    assert "'x'" in why

    def folders(content: bytes, *names: str) -> str:
        targets = {"dtype": "int64", "shape": [100], "classes": list(names)}
        return service.dataset(content, targets=targets)

    body = _body(service, dataset=folders(OWN, "ant", "bee"))
    kind, where, why = _refused(
        service, {**body, "evaluate": {"dataset": folders(ANOTHER, "bee", "cow")}}
    )
    assert (kind, where) == ("dataset-mismatch", AT)
    assert "ant, cow" in why
    same = {**body, "evaluate": {"dataset": folders(ANOTHER, "ant", "bee")}}
    assert service.http.post("/v1/jobs", json=same).status_code == 202


def test_a_metric_needs_the_targets_of_the_dataset_that_is_judged_on(service: Service) -> None:
    body = _body(service, dataset=service.dataset(OWN, targets=None))
    evaluate = {**body["evaluate"], "metric": "top1"}
    assert service.http.post("/v1/jobs", json={**body, "evaluate": evaluate}).status_code == 202
    bare = {"dataset": service.dataset(ANOTHER, targets=None)}
    _, where, why = _refused(service, _body(service, evaluate={**bare, "metric": "top1"}))
    assert where == "#/evaluate/metric"
    assert "targets" in why


@pytest.mark.parametrize("end", ["ready", "rejected"])
def test_a_job_waits_while_the_dataset_to_judge_on_is_inspected(service: Service, end: str) -> None:
    unready = service.http.post("/v1/datasets", content=b"slow").json()["id"]
    body = _body(service, evaluate={"dataset": unready})
    plan = service.http.post("/v1/jobs/plan", json=body).json()
    assert plan["ok"], plan
    assert any(unready in warning for warning in plan["warnings"])
    job = service.http.post("/v1/jobs", json=body).json()["id"]
    with service.store.begin() as session:
        assert turns.next_job(session, claims.WorkerOffer("cpu"), {}) is None
        assert claim_job(session, job, "a worker", 60) is None
    with service.store.begin() as session:
        claimed = inspections.claim(session, DatasetRow, unready, "a worker", 60)
        assert claimed is not None
        if end == "ready":
            misfit = DatasetDescription.model_validate({**DATASET, "arrays": []})
            told = inspections.accept_dataset(session, claimed, misfit)
        else:
            told = inspections.reject(session, claimed, InvalidDataset("It is empty."))
        assert list(told) == [job]
    with service.store.begin() as session:
        assert turns.next_job(session, claims.WorkerOffer("cpu"), {}) == job
        assert claim_job(session, job, "a worker", 60) is None
        problem = session.get_one(JobRow, job).problem
    assert problem is not None
    assert problem["type"] == ("dataset-mismatch" if end == "ready" else "invalid-dataset")


def test_a_dataset_that_a_job_is_judged_on_cannot_be_deleted_until_it_ends(
    service: Service,
) -> None:
    body = _body(service)
    judged = f"/v1/datasets/{body['evaluate']['dataset']}"
    job = service.http.post("/v1/jobs", json=body).json()["id"]
    answer = service.http.delete(judged)
    assert (answer.status_code, answer.json()["type"]) == (409, "conflict")
    assert job in answer.json()["detail"]
    service.http.post(f"/v1/jobs/{job}/cancel")
    assert service.http.delete(judged).status_code == 204
    answer = service.http.post(f"/v1/jobs/{job}/retry")
    assert (answer.status_code, answer.json()["type"]) == (409, "conflict")
    assert body["evaluate"]["dataset"] in answer.json()["detail"]
