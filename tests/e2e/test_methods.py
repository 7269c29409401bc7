"""Every method and mode through the real service: from an upload to a model that runs."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.e2e.service import Service
from tests.waiting import eventually
from tests.workers.learning import nets

TRAINING: dict[str, Any] = {"epochs": 2, "batch_size": 32, "learning_rate": 1e-3}
STEPS: dict[str, dict[str, Any]] = {
    "prune-channel": {"method": "prune", "ratio": 0.3},
    "prune-unstructured": {"method": "prune", "granularity": "unstructured"},
    "prune-polynomial": {
        "method": "prune",
        "granularity": "unstructured",
        "schedule": "polynomial",
        "recover": TRAINING,
    },
    "low_rank": {"method": "low_rank", "ratio": 0.2},
    "low_rank-recover": {"method": "low_rank", "ratio": 0.2, "recover": TRAINING},
    "cluster": {"method": "cluster"},
    "cluster-recover": {"method": "cluster", "recover": TRAINING},
    "quantize-static": {"method": "quantize", "mode": "static", "force": True},
    "quantize-dynamic": {"method": "quantize", "mode": "dynamic", "force": True},
    "quantize-float16": {"method": "quantize", "mode": "float16", "force": True},
    "quantize-weight_only": {"method": "quantize", "mode": "weight_only", "weights": "int4"},
    "quantize-qat": {"method": "quantize", "mode": "qat", "recover": TRAINING},
}
INPUTS = np.random.default_rng(0).standard_normal((128, 16)).astype(np.float32)
NETWORK = """
<ir_version: 9, opset_import: ["": 20]>
network (float[N, 16] x) => (float[N, 10] y)
{
    a = Gemm<transB=1>(x, w1, b1)
    h = Relu(a)
    b = Gemm<transB=1>(h, w2, b2)
    i = Relu(b)
    y = Gemm<transB=1>(i, w3, b3)
}
"""
SHAPES = {"w1": (64, 16), "b1": (64,), "w2": (64, 64), "b2": (64,), "w3": (10, 64), "b3": (10,)}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("network")
    return nets.stored(nets.graph(NETWORK, SHAPES), directory / "network.onnx")


@pytest.fixture(scope="module")
def network(running_service: Service, original: Path) -> str:
    return running_service.upload(original.read_bytes())


@pytest.fixture(scope="module")
def rows(running_service: Service) -> str:
    """A dataset of rows without targets, ready."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, x=INPUTS)
    http = running_service.http
    made = http.post("/v1/datasets?filename=rows.npz", content=buffer.getvalue()).json()

    def ready() -> bool:
        found = http.get(f"/v1/datasets/{made['id']}").json()
        assert found["status"] in {"inspecting", "ready"}, found
        return bool(found["status"] == "ready")

    eventually(ready, what="inspection")
    return str(made["id"])


@pytest.mark.parametrize("name", STEPS)
def test_a_method_makes_a_model_that_runs_and_says_what_it_changed(
    service: Service, original: Path, network: str, rows: str, name: str
) -> None:
    """Trained steps tell of their training, the others of their progress alone."""
    step = STEPS[name]
    body = {"model": network, "dataset": rows, "steps": [step]}
    plan = service.http.post("/v1/jobs/plan", json=body).json()
    assert plan["ok"], plan
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job = service.finished(answer.json()["id"])
    assert job["status"] == "succeeded", job
    [report] = job["step_reports"]
    assert report["parameters"] == plan["steps"][0]
    assert report["layers"], report["skipped"]
    assert all(layer["change"] for layer in report["layers"])
    assert job["compressed"]["fidelity"]["sqnr_db"] > 3
    artifact = service.artifact(job)
    onnx.checker.check_model(onnx.load_from_string(artifact))
    assert _interface(artifact) == _interface(original.read_bytes())
    told = [kind for (kind,) in service.rows(_KINDS, job["id"])]
    assert told.count("progress") > 1
    assert (told.count("metric") >= TRAINING["epochs"]) == ("recover" in step)


def test_another_choice_takes_the_prices_that_an_earlier_job_measured(
    service: Service, network: str, rows: str
) -> None:
    """A worker of its own runs the jobs: the others take nothing over."""
    common = {"model": network, "dataset": rows, "requires": {"labels": ["thrifty"]}}
    choices: list[dict[str, Any]] = [
        {"steps": [{"method": "quantize"}]},
        {
            "steps": [{"method": "quantize", "prefer": "speed"}],
            "require": {"max_quality_drop": 0.5},
        },
    ]
    notes = []
    with service.more(ENGINE_REUSE_STEPS="true", WORKER_LABELS="thrifty"):
        for choice in choices:
            answer = service.http.post("/v1/jobs", json={**common, **choice})
            assert answer.status_code == 202, answer.text
            job = service.finished(answer.json()["id"], 120)
            [report] = job["step_reports"]
            notes.append([note for note in report["notes"] if "price list" in note])
            service.http.delete(f"/v1/jobs/{job['id']}").raise_for_status()
    assert notes[0] == []
    assert len(notes[1]) == 1
    assert "which an earlier job made" in notes[1][0]


def test_what_each_layer_bears_is_measured_by_a_job_that_makes_no_file(
    service: Service, network: str, rows: str
) -> None:
    path = f"/v1/models/{network}/sensitivity"
    job = service.http.post(path, json={"dataset": rows}).json()
    ended = service.finished(job["id"])
    assert ended["status"] == "succeeded", ended
    assert ended["artifacts"] == []
    chart = service.http.get(path).json()
    assert (chart["job"], chart["dataset"]) == (job["id"], rows)
    assert [layer["operator"] for layer in chart["layers"]] == ["Gemm"] * 3
    measured = [cost for row in chart["cost"] for cost in row if cost is not None]
    assert len(measured) > len(chart["layers"])
    assert all(0 <= cost <= 1 for cost in measured)


_KINDS = "SELECT kind FROM events WHERE job_id = %s"


def _interface(model: bytes) -> list[tuple[str, str, list[int | str]]]:
    """Run a model on three rows; return name, type and shape of its inputs and outputs."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": INPUTS[:3]})
    assert answer.shape == (3, 10)
    assert np.isfinite(answer).all()
    return [
        (each.name, each.type, each.shape)
        for each in (*session.get_inputs(), *session.get_outputs())
    ]
