"""A result judged by a metric of the user's own, on a dataset of its own, through the service."""

import io
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from tests.e2e.service import Json, Service
from tests.waiting import eventually
from tests.workers.learning import nets

NETWORK = """
<ir_version: 9, opset_import: ["": 20]>
network (float[N, 16] x) => (float[N, 4] y)
{
    a = Gemm<transB=1>(x, w1, b1)
    h = Relu(a)
    y = Gemm<transB=1>(h, w2, b2)
}
"""
SHAPES = {"w1": (64, 16), "b1": (64,), "w2": (4, 64), "b2": (4,)}
METRIC = """
<ir_version: 9, opset_import: ["": 20]>
spread (float[N, 4] y, int64[N] targets) => (float[N] right)
{
    best = ArgMax<axis = 1, keepdims = 0>(y)
    same = Equal(best, targets)
    right = Cast<to = 1>(same)
}
"""


def _uploaded(service: Service, **arrays: NDArray[np.generic]) -> str:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    made = service.http.post("/v1/datasets?filename=rows.npz", content=buffer.getvalue()).json()

    def ready() -> Json | None:
        found: Json = service.http.get(f"/v1/datasets/{made['id']}").json()
        return found if found["status"] == "ready" else None

    return str(eventually(ready, what="inspection")["id"])


@pytest.mark.parametrize("epochs", [None, 2], ids=["calibrated", "trained"])
def test_a_result_is_judged_by_the_user_s_graph_on_the_user_s_dataset(
    service: Service, tmp_path: Path, epochs: int | None
) -> None:
    """The figures are those that onnxruntime gives for the downloaded artifact."""
    path = nets.stored(nets.graph(NETWORK, SHAPES), tmp_path / "network.onnx")
    network = service.upload(path.read_bytes())
    metric = service.upload(onnx.parser.parse_model(METRIC).SerializeToString())
    generator = np.random.default_rng(0)
    rows, judged = (generator.standard_normal((n, 16)).astype(np.float32) for n in (128, 40))
    targets = generator.integers(0, 4, 40)
    data = _uploaded(service, x=rows)
    apart = _uploaded(service, x=judged, targets=targets)
    recover = {"epochs": epochs, "batch_size": 32, "learning_rate": 1e-3} if epochs else None
    step = {"method": "prune", "ratio": 0.3, "recover": recover}
    body = {
        "model": network,
        "dataset": data,
        "steps": [step if epochs else {"method": "quantize", "mode": "static", "force": True}],
        "evaluate": {"metric": {"model": metric}, "dataset": apart},
    }
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job = service.finished(answer.json()["id"])
    assert job["status"] == "succeeded", job
    report = service.http.get(f"/v1/jobs/{job['id']}/report").json()
    assert report["evaluation"]["dataset"] == apart
    assert report["evaluation"]["indices"] == list(range(40))
    artifact = service.artifact(job)
    for figures, graph in ((job["baseline"], path.read_bytes()), (job["compressed"], artifact)):
        session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
        (answers,) = session.run(None, {"x": judged})
        quality = figures["quality"]
        assert (quality["metric"], quality["kind"], quality["samples"]) == (metric, "gain", 40)
        assert quality["value"] == pytest.approx(np.mean(answers.argmax(1) == targets), abs=0.026)
    page = service.http.get(f"/v1/jobs/{job['id']}/report", headers={"Accept": "text/html"}).text
    assert metric in page
    assert apart in page
