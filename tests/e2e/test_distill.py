"""Distillation through the real service, on data without labels."""

import io
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.e2e.service import Service
from tests.workers import zoo


@pytest.fixture(scope="module")
def network(running_service: Service) -> str:
    return running_service.upload(zoo.path("residual").read_bytes())


@pytest.fixture(scope="module")
def images(running_service: Service) -> str:
    file = io.BytesIO()
    np.savez(file, image=zoo.feeds("residual", 96)["image"].numpy())
    answer = running_service.http.post("/v1/datasets?filename=images.npz", content=file.getvalue())
    assert answer.status_code in {201, 202}, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize(
    "student",
    [{"derive": {"width": 0.5}}, {"architecture": "resnet_cifar", "width": 0.5}],
    ids=["derived", "architecture"],
)
def test_a_student_is_smaller_and_answers_as_it_is_asked(
    service: Service, network: str, images: str, student: dict[str, Any]
) -> None:
    training = {"epochs": 2, "learning_rate": 1e-3}
    step = {"method": "distill", "student": student, "recover": training}
    request = {"model": network, "dataset": images, "steps": [step]}
    plan = service.http.post("/v1/jobs/plan", json=request).json()
    assert plan["ok"], plan
    answer = service.http.post("/v1/jobs", json=request)
    assert answer.status_code == 202, answer.text
    job = service.finished(answer.json()["id"])
    assert job["status"] == "succeeded", job["problem"]
    [report] = job["step_reports"]
    assert report["method"] == "distill"
    assert report["layers"]
    assert job["compressed"]["fidelity"]["agreement"] is not None
    session = onnxruntime.InferenceSession(
        service.artifact(job), providers=["CPUExecutionProvider"]
    )
    feeds = {"image": zoo.feeds("residual", 3)["image"].numpy()}
    assert session.run(None, feeds)[0].shape == (3, 10)


def test_other_models_of_the_tenant_may_learn_and_teach(
    service: Service, network: str, images: str
) -> None:
    other = service.upload(zoo.path("inverted_residual").read_bytes())
    step = {"method": "distill", "student": {"model": other}, "teacher": network}
    step["recover"] = {"epochs": 1, "learning_rate": 1e-3}
    request = {"model": network, "dataset": images, "steps": [step]}
    job_id = service.http.post("/v1/jobs", json=request).json()["id"]
    refused = service.http.delete(f"/v1/models/{other}")
    job = service.finished(job_id)
    assert job["status"] == "succeeded", job["problem"]
    assert other in job["step_reports"][0]["layers"][0]["change"]
    assert refused.status_code == 409
    assert job_id in refused.json()["detail"]
    assert service.http.delete(f"/v1/models/{other}").status_code == 204


def test_a_student_of_other_inputs_is_refused(service: Service, network: str, images: str) -> None:
    other = service.upload(zoo.path("mlp").read_bytes())
    step = {"method": "distill", "student": {"model": other}}
    request = {"model": network, "dataset": images, "steps": [step]}
    answer = service.http.post("/v1/jobs", json=request)
    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["errors"]] == ["#/steps/0/student/model"]


def test_a_loss_on_labels_needs_them(service: Service, network: str, images: str) -> None:
    step = {"method": "distill", "losses": [{"kind": "labels"}]}
    request = {"model": network, "dataset": images, "steps": [step]}
    answer = service.http.post("/v1/jobs", json=request)
    assert answer.status_code == 422
    assert "targets" in answer.json()["detail"]
