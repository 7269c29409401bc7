"""Weights that branches and loops hold, or read from outside, are compressed like others."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from app.domain.steps import Cluster, Quantize
from tests.workers.engine.test_graphs import apply, graph, normal, reasons
from workers.compression.graph.editor import name_nodes
from workers.compression.graph.load import load, save
from workers.compression.methods.cluster import cluster
from workers.compression.samples.context import Context

MODES = {
    "static": Quantize(mode="static", force=True, calibration_samples=8),
    "dynamic": Quantize(mode="dynamic", force=True),
    "four bits": Quantize(mode="dynamic", force=True, weights="int4"),
    "blocks": Quantize(mode="weight_only", weights="int4", block_size=16),
    "gptq": Quantize(mode="weight_only", weights="int8", block_size=16, algorithm="gptq"),
    "float16": Quantize(mode="float16", force=True),
}

BODIES = {
    "branch": """g (float[N, 32] x, bool[1] c) => (float[N, 6] y) {
        a = MatMul(x, w)
        y = If (c) <
            then_branch = t () => (float[N, 6] p) { p = MatMul(a, v) },
            else_branch = e () => (float[N, 6] q) { [kept] k = Relu(a) q = MatMul(k, v) }
        >
    }""",
    "loop": """g (float[N, 32] x, bool[1] c) => (float[N, 6] y) {
        n = Size(c)
        three = Mul(n, three_)
        f = Cast<to = 9>(n)
        a = Loop (three, f, x) <
            body = b (int64 i, bool go, float[N, 32] s) => (bool on, float[N, 32] r) {
                on = Identity(go)
                m = MatMul(s, w)
                [kept] k = Relu(m)
                r = Add(k, x)
            }
        >
        y = MatMul(a, v)
    }""",
    "scan": """g (float[N, 32] x, bool[1] c) => (float[N, 6] y) {
        rows_ = Constant<value_ints = [0]>()
        z = ReduceMean<keepdims = 0>(x, rows_)
        last, rows = Scan <
            num_scan_inputs = 1,
            body = b (float[32] s, float[32] row) => (float[32] r, float[32] o) {
                [kept] k = Tanh(s)
                m = MatMul(row, w)
                r = Add(k, m)
                o = Identity(r)
            }
        > (z, x)
        y = MatMul(rows, v)
    }""",
}


def drawn(directory: Path, kind: str) -> Path:
    """Write a graph whose body reads the weight ``w`` that is read outside too, and ``v``."""
    path = graph(directory, BODIES[kind], {"w": (32, 32), "v": (32, 6), "three_": ()}, opset=21)
    proto = onnx.load(path)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    tensors["three_"].CopyFrom(numpy_helper.from_array(np.array(3), "three_"))
    tensors["w"].CopyFrom(numpy_helper.from_array(normal(32, 32) / 8, "w"))
    onnx.save(proto, path)
    return path


FEEDS: dict[str, Any] = {"x": normal(8, 32), "c": np.ones(8, bool)}


def stored(path: Path) -> list[bytes]:
    """Return the contents of the constants of 64 bytes and more."""
    values = (v for g in load(path).graphs() for v in g.initializers.values())
    tensors = (v.const_value for v in values if v.const_value is not None)
    return [tensor.tobytes() for tensor in tensors if tensor.nbytes >= 64]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", BODIES)
def test_bodies_are_quantized_and_nothing_is_stored_twice(
    tmp_path: Path, kind: str, mode: str
) -> None:
    path = drawn(tmp_path, kind)
    outcome, sqnr = apply(path, MODES[mode], **FEEDS)
    assert sqnr > (12 if "int4" in repr(MODES[mode].weights) else 25)
    assert len(outcome.layers) == len(onnx_products(path))
    contents = stored(path.with_name("quantized.onnx"))
    assert len(set(contents)) == len(contents)
    assert path.with_name("quantized.onnx").stat().st_size < path.stat().st_size


def onnx_products(path: Path) -> list[str]:
    """Return the names of the products of a graph, those of bodies included."""
    return [str(n.name) for n in load(path).graph.all_nodes() if n.op_type == "MatMul"]


@pytest.mark.parametrize("kind", BODIES)
def test_bodies_share_few_values(tmp_path: Path, kind: str) -> None:
    path = drawn(tmp_path, kind)
    model = load(path)
    name_nodes(model)
    outcome = cluster(model, Cluster(clusters=64), Context(None, 0, 1), lambda _: None)
    assert "w_codebook" in outcome.model.graph.initializers
    assert "w" not in outcome.model.graph.initializers
    save(outcome.model, done := tmp_path / "clustered.onnx")
    before, after = (
        ort.InferenceSession(p, providers=["CPUExecutionProvider"]).run(None, first(FEEDS))[0]
        for p in (path, done)
    )
    assert np.square(before - after).mean() < 0.01 * np.square(before).mean()


def first(feeds: dict[str, Any]) -> dict[str, Any]:
    """Return the first sample."""
    return {name: array[:1] for name, array in feeds.items()}


@pytest.mark.parametrize("kind", BODIES)
def test_a_node_of_a_body_may_stay_in_float32(tmp_path: Path, kind: str) -> None:
    path = drawn(tmp_path, kind)
    outcome, sqnr = apply(path, Quantize(mode="float16", force=True, ignore=["kept"]), **FEEDS)
    assert sqnr > 45
    assert reasons(outcome) == {"kept": "named in 'ignore'"}
    values = outcome.model.graph.initializers
    assert {str(values[name].dtype) for name in ("w", "v")} == {"FLOAT16"}
