"""Pruning through the real service, once for each granularity."""

from typing import Any

import onnx
import onnxruntime
import pytest

from tests.e2e.service import Service
from tests.workers import zoo


@pytest.fixture(scope="module")
def network(running_service: Service) -> str:
    return running_service.upload(zoo.path("residual").read_bytes())


@pytest.mark.parametrize(
    ("step", "figure", "left"),
    [
        ({"ratio": 0.5}, "macs", 0.5),
        ({"granularity": "unstructured", "sparsity": 0.8}, "nonzero_parameters", 0.25),
        ({"granularity": "n:m", "n": 2, "m": 4}, "nonzero_parameters", 0.55),
        ({"granularity": "block", "sparsity": 0.5}, "nonzero_parameters", 0.55),
    ],
    ids=["channel", "unstructured", "n:m", "block"],
)
def test_a_pruned_model_is_what_the_report_says(
    service: Service, network: str, step: dict[str, Any], figure: str, left: float
) -> None:
    request = {"model": network, "steps": [{"method": "prune", **step}]}
    answer = service.http.post("/v1/jobs", json=request)
    assert answer.status_code == 202, answer.text
    job = service.finished(answer.json()["id"])
    assert job["status"] == "succeeded", job
    assert job["compressed"][figure] <= left * job["baseline"][figure]
    [report] = job["step_reports"]
    assert report["layers"]
    assert all(skip["reason"] for skip in report["skipped"])
    graph = service.artifact(job)
    onnx.checker.check_model(onnx.load_from_string(graph))
    assert onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
