"""Formats whose converters have a Python of their own, over HTTP: the same grids everywhere."""

import io
import zipfile
from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.e2e import tooled
from tests.e2e.service import Service
from tests.waiting import eventually
from tests.workers import zoo

PIXELS = np.random.default_rng(0).standard_normal((96, 3, 16, 16)).astype(np.float32)
MADE = ("litert", "litert_micro", "executorch")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with tooled.service(tmp_path_factory.mktemp("tools"), "litert", "executorch") as running:
        yield running


def test_int8_of_a_network_is_within_a_step_of_the_onnx_graph_on_every_runtime(
    service: Service,
) -> None:
    model = service.upload(with_an_uneven_answer(zoo.path("residual").read_bytes()))
    http, dataset = service.http, stored(service, image=PIXELS)
    offered = {target["target"] for target in http.get("/v1/targets").json()["items"]}
    assert {"onnx", "ort", "openvino", *MADE} <= offered
    wanted = ["onnx", *MADE]
    body = {
        "model": model,
        "dataset": dataset,
        "steps": [{"method": "quantize", "mode": "static", "force": True}],
        "deliver": wanted,
    }
    assert http.post("/v1/jobs/plan", json=body).json()["ok"]
    job = service.finished(http.post("/v1/jobs", json=body).json()["id"], seconds=240)
    assert job["status"] == "succeeded", job["problem"]
    found = {artifact["format"]: artifact for artifact in job["artifacts"]}
    assert list(found) == wanted
    step = step_of(http.get(found["onnx"]["href"]).content)
    for name in MADE:
        artifact = found[name]
        assert artifact["ran"]
        assert artifact["latency_ms"] > 0
        assert artifact["max_error"] <= step, name
        assert artifact["fidelity"]["explained"] > 0.9
    assert found["litert"]["runtime"].startswith("ai-edge-litert 2")
    content = http.get(found["litert"]["href"]).content
    assert content[4:8] == b"TFL3"
    assert found["litert_micro"]["runtime"].startswith("tflite-micro")
    with zipfile.ZipFile(io.BytesIO(http.get(found["litert_micro"]["href"]).content)) as archive:
        assert archive.read("model.tflite")[4:8] == b"TFL3"
        assert "AddConv2D" in archive.read("op_resolver.h").decode()
        size = len(archive.read("model.tflite"))
        assert f"g_model_data_size = {size};" in archive.read("model_data.cc").decode()
    report = http.get(f"/v1/jobs/{job['id']}/report", headers={"Accept": "text/html"}).text
    assert "ai-edge-litert" in report


def test_an_input_that_is_a_single_number_stays_one_on_every_runtime(service: Service) -> None:
    """Elu is selected by an operator that microcontrollers have in a newer version alone."""
    draw = np.random.default_rng(0)
    weight = draw.standard_normal((8, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["row", "weight"], ["before"], transB=1),
        helper.make_node("Mul", ["before", "gain"], ["scaled"]),
        helper.make_node("Elu", ["scaled"], ["answer"]),
    ]
    row, gain, answer = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in {"row": [1, 8], "gain": [], "answer": [1, 8]}.items()
    )
    kept = [numpy_helper.from_array(weight, "weight")]
    graph = helper.make_graph(nodes, "scaled", [row, gain], [answer], kept)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    rows = draw.standard_normal((32, 8)).astype(np.float32)
    gains = draw.uniform(0.5, 2, 32).astype(np.float32)
    body = {
        "model": service.upload(made.SerializeToString()),
        "dataset": stored(service, row=rows, gain=gains),
        "steps": [],
        "deliver": ["onnx", *MADE],
    }
    job = service.finished(service.http.post("/v1/jobs", json=body).json()["id"], seconds=240)
    assert job["status"] == "succeeded", job["problem"]
    found = {artifact["format"]: artifact["max_error"] for artifact in job["artifacts"]}
    assert found == {"onnx": 0, **dict.fromkeys(MADE, pytest.approx(0, abs=1e-5))}


def stored(service: Service, **arrays: NDArray[np.float32]) -> str:
    """Upload a dataset, and return its id once it is inspected."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    made = service.http.post("/v1/datasets?filename=rows.npz", content=buffer.getvalue())
    path = f"/v1/datasets/{made.json()['id']}"
    eventually(lambda: service.http.get(path).json()["status"] == "ready", what="inspection")
    return path.rpartition("/")[2]


def with_an_uneven_answer(graph: bytes) -> bytes:
    """Return a graph whose last layer has a first channel, and so a grid, much below the others."""
    model = onnx.load_from_string(graph)
    for stored in model.graph.initializer:
        if stored.name in model.graph.node[-1].input:
            array = numpy_helper.to_array(stored).copy()
            array[0] /= 20
            stored.CopyFrom(numpy_helper.from_array(array, stored.name))
    written: bytes = model.SerializeToString()
    return written


def step_of(graph: bytes) -> float:
    """Return a step of the int8 grid that spans a graph's outputs, and 0 as every grid does.

    The last layer adds up in float what was rounded before, where runtimes may round otherwise.
    """
    [outputs] = ort.InferenceSession(graph).run(None, {"image": PIXELS})
    return float(np.ptp(np.append(outputs, 0))) / 255
