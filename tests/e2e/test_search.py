"""A search through the real service: trials run by one worker, and the best one is the result."""

import io
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tests.app.boards import agent
from tests.e2e.service import Service
from tests.e2e.test_methods import INPUTS, NETWORK, SHAPES
from tests.waiting import eventually
from tests.workers.learning import nets


@pytest.fixture(scope="module")
def network(running_service: Service, tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("network")
    graph = nets.stored(nets.graph(NETWORK, SHAPES), directory / "network.onnx")
    return running_service.upload(graph.read_bytes())


@pytest.fixture(scope="module")
def rows(running_service: Service) -> str:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, x=INPUTS)
    made = running_service.http.post("/v1/datasets?filename=rows.npz", content=buffer.getvalue())
    return str(made.json()["id"])


RESIDUAL = """
<ir_version: 9, opset_import: ["": 20]>
network (float[N, 16] x) => (float[N, 10] y)
{
    a = Gemm<transB=1>(x, w1, b1)
    h = Relu(a)
    b = Gemm<transB=1>(h, w2, b2)
    i = Relu(b)
    c = Gemm<transB=1>(i, w3, b3)
    d = Add(c, h)
    y = Gemm<transB=1>(d, w4, b4)
}
"""
WIDE = {
    "w1": (64, 16), "b1": (64,), "w2": (64, 64), "b2": (64,), "w3": (64, 64), "b3": (64,),
    "w4": (10, 64), "b4": (10,),
}  # fmt: skip


def test_a_network_is_taken_out_of_a_supernet(service: Service, rows: str, tmp_path: Path) -> None:
    """One trial trains the supernet, and takes a network that needs no training."""
    graph = nets.stored(nets.graph(RESIDUAL, WIDE), tmp_path / "residual.onnx")
    body = {
        "model": service.upload(graph.read_bytes()),
        "dataset": rows,
        "objective": {
            "minimize": "macs",
            "strategy": "once_for_all",
            "subject_to": {"max_quality_drop": 1},
            "budget": {"trials": 1, "minutes": 5},
        },
    }
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job = service.finished(answer.json()["id"], 300)
    assert job["status"] == "succeeded", job["problem"]
    assert job["search"]["trials"]["failed"] == 0
    assert job["compressed"]["macs"] < 0.9 * job["baseline"]["macs"]
    assert [step["method"] for step in job["search"]["best"]["steps"]] == ["supernet", "subnet"]


def test_a_search_finds_a_smaller_model_with_the_only_worker(
    service: Service, network: str, rows: str
) -> None:
    """The search holds no slot: there is one, and its trials need it. The worker dies once."""
    body = {
        "model": network,
        "dataset": rows,
        "objective": {
            "minimize": "size",
            "subject_to": {"max_quality_drop": 0.2},
            "budget": {"trials": 3, "minutes": 5},
        },
    }
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    search_id = answer.json()["id"]
    eventually(lambda: service.job(search_id)["search"]["trials"]["done"], 60, "the first trial")
    service.restart(service.jobs)
    job = service.finished(search_id, 120)
    assert job["status"] == "succeeded", job["problem"]
    assert job["search"]["trials"]["done"] == 3
    assert job["search"]["trials"]["failed"] == 0, "a worker's death is nobody's failure"
    assert job["compressed"]["size_bytes"] < 0.5 * job["baseline"]["size_bytes"]
    assert job["search"]["best"]["drop"] <= 0.1
    content = service.http.get(job["artifacts"][0]["href"]).content
    assert len(content) == job["compressed"]["size_bytes"]
    session = ort.InferenceSession(content)
    assert session.run(None, {"x": INPUTS[:3]})[0].shape == (3, 10)
    front = service.http.get(f"/v1/jobs/{search_id}/front").json()
    costs = [point["cost"] for point in front["points"]]
    assert costs == sorted(costs)
    taken = service.http.post(f"/v1/jobs/{search_id}/front/{front['points'][0]['id']}/take").json()
    assert taken["status"] == "succeeded"
    assert service.http.get(taken["artifacts"][0]["href"]).status_code == 200


def test_a_board_times_what_a_job_made_and_says_how_fast_it_is_there(
    service: Service, network: str, rows: str
) -> None:
    """The job's report says what a timed run reads, and the agent needs nothing else."""
    with agent(service.gateway.url, "--tasks", "1") as board:
        eventually(lambda: service.http.get("/v1/devices").json()["items"], 60, "the device")
        body = {
            "model": network,
            "dataset": rows,
            "steps": [{"method": "quantize", "mode": "dynamic"}],
            "target": "my-board",
        }
        job = service.finished(service.http.post("/v1/jobs", json=body).json()["id"], 60)
        assert job["status"] == "succeeded", job["problem"]
        _, said = board.communicate(timeout=60)
    assert board.returncode == 0, said
    [times] = service.http.get(f"/v1/jobs/{job['id']}/measurements").json()["items"]
    assert times["state"] == "measured", times["problem"]
    assert times["sha256"] == job["artifacts"][0]["sha256"]
    assert times["latency"]["original"]["median"] > 0
    run = service.http.get(f"/v1/jobs/{job['id']}/report").json()["evaluation"]["run"]
    [read] = run["inputs"]
    assert (read["name"], read["dtype"], read["shape"][0]) == ("x", "float32", 1)
