"""Fault 1 with the real engine: a training that is killed goes on, to the same artifact."""

import io
import json
from pathlib import Path

import numpy as np

from tests.e2e.service import Service
from tests.waiting import eventually
from tests.workers.learning import nets

STEP = {
    "method": "prune",
    "granularity": "unstructured",
    "sparsity": 0.6,
    "recover": {"epochs": 25, "batch_size": 4, "learning_rate": 1e-3, "loss": "teacher"},
}


def _dataset(service: Service) -> str:
    inputs = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, x=inputs)
    made = service.http.post("/v1/datasets?filename=rows.npz", content=buffer.getvalue()).json()
    ready = eventually(
        lambda: service._settled(f"/v1/datasets/{made['id']}", "inspecting"), what="inspection"
    )
    assert ready["status"] == "ready", ready
    return str(made["id"])


def _submit(service: Service, model: str, dataset: str) -> str:
    body = {"model": model, "dataset": dataset, "steps": [STEP]}
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def _epochs(service: Service, job_id: str) -> list[int]:
    told = service.rows(
        "SELECT data FROM events WHERE job_id = %s AND kind = 'metric' ORDER BY number", job_id
    )
    figures = [each if isinstance(each, dict) else json.loads(each) for (each,) in told]
    return [each["epoch"] for each in figures if each["name"] == "loss"]


def test_1_a_training_killed_in_mid_epoch_goes_on_and_makes_the_same_artifact(
    service: Service, tmp_path: Path
) -> None:
    network = nets.stored(nets.graph(nets.MLP, nets.MLP_SHAPES), tmp_path / "mlp.onnx")
    model, dataset = service.upload(network.read_bytes()), _dataset(service)
    undisturbed = service.finished(_submit(service, model, dataset), 120)
    assert undisturbed["status"] == "succeeded", undisturbed
    job_id = _submit(service, model, dataset)
    eventually(
        lambda: [
            state
            for place in service._places()
            for state in place.glob("engine/steps/*/checkpoint/*.npz")
        ],
        60,
        "the first state on disk",
    )
    for process in service.engines(service.jobs):
        process.kill()
    job = service.finished(job_id, 120)
    assert job["status"] == "succeeded", job
    assert job["attempts"] == 2
    assert service.artifact(job) == service.artifact(undisturbed)
    epochs = _epochs(service, job_id)
    assert len(epochs) <= len(set(epochs)) + 1, "epochs before the state are not done again"
