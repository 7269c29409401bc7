"""Graphs in half or double compute in float32, between Casts, and their files stay as small."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.workers import zoo
from tests.workers.intake.models import model, tensor, value, write
from workers.compression.graph import runtime
from workers.compression.graph.editor import constant
from workers.compression.graph.inference import infer
from workers.compression.graph.load import load, save, store
from workers.compression.graph.narrow import mark_stored, stored_type
from workers.compression.graph.precision import Change, retype
from workers.compression.intake.inspect import inspect_model

HALF, DOUBLE, FLOAT = ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.FLOAT
TO_HALF = Change(frozenset({FLOAT}), HALF)


def types(graph: ir.Model) -> set[ir.DataType]:
    """Return the types of the floats that nodes make, but for Casts."""
    nodes = (node for node in graph.graph.all_nodes() if node.op_type != "Cast")
    found = {v.dtype for node in nodes for v in node.outputs if v.dtype is not None}
    return {dtype for dtype in found if dtype.is_floating_point()}


def halved(name: str, path: Path) -> Path:
    """Write a network in half, its inputs and outputs still float32."""
    graph = load(zoo.path(name))
    infer(graph)
    retype(graph, TO_HALF)
    save(graph, path)
    return path


@pytest.mark.parametrize("name", ["residual", "vit", "bert", "encoder_decoder"])
def test_a_network_in_half_computes_in_float32_and_takes_no_more_room(
    tmp_path: Path, name: str
) -> None:
    upload = halved(name, tmp_path / "upload")
    found = inspect_model(upload, tmp_path)
    assert found.trainable
    assert [note for note in found.notes if "undone" in note] == []
    assert any("float16" in note for note in found.notes)
    stored = tmp_path / "model.onnx"
    assert types(load(upload)) == {HALF}
    assert types(load(stored)) == {FLOAT}
    assert stored.stat().st_size < 1.05 * upload.stat().st_size + 2000
    feeds = {n: t.numpy() for n, t in zoo.feeds(name, 2).items()}
    before, after = (runtime.run(runtime.open_session(p), feeds) for p in (upload, stored))
    for output, wanted in before.items():
        np.testing.assert_allclose(after[output], wanted, atol=0.01 * np.abs(wanted).max())


def doubles(count: int = 8) -> onnx.ModelProto:
    """Return a scaler and a product, both in float64."""
    weight = np.random.default_rng(0).standard_normal((count, 3))
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "deviation"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "w"], ["y"]),
    ]
    weights = [
        tensor("mean", np.full(count, 1.7e9)),
        tensor("deviation", np.full(count, 100.0)),
        tensor("w", weight),
    ]
    ends = (
        [value("x", "N", count, dtype=TensorProto.DOUBLE)],
        [value("y", "N", 3, dtype=TensorProto.DOUBLE)],
    )
    return model(nodes, *ends, weights)


def test_what_prepares_dates_stays_in_float64_and_weights_are_float32(tmp_path: Path) -> None:
    upload = write(doubles(), tmp_path / "upload")
    inspect_model(upload, tmp_path)
    graph = load(tmp_path / "model.onnx")
    made = {node.op_type: node.outputs[0].dtype for node in graph.graph}
    assert (made["Sub"], made["Div"], made["MatMul"]) == (DOUBLE, DOUBLE, FLOAT)
    assert graph.graph.initializers["w"].dtype == FLOAT
    dates = 1.7e9 + 100 * np.random.default_rng(1).standard_normal((5, 8))
    runs = (
        ort.InferenceSession(p).run(None, {"x": dates})[0]
        for p in (upload, tmp_path / "model.onnx")
    )
    before, after = runs
    assert before.dtype == after.dtype == np.float64
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


def linear(weight: NDArray[np.floating]) -> ir.Model:
    """Return a product and a sum with a constant, in float32, to be stored in half."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Mul", ["m", "s"], ["y"]),
    ]
    scale = np.random.default_rng(2).standard_normal(1000).astype(np.float32)
    ends = [value("x", "N", len(weight))], [value("y", "N", 1000)]
    graph = ir.serde.deserialize_model(
        model(nodes, *ends, [tensor("w", weight), tensor("s", scale)])
    )
    mark_stored(graph, HALF)
    return graph


@pytest.mark.parametrize(
    ("factor", "kept"), [(1.0, HALF), (1e6, FLOAT)], ids=["trained", "too large"]
)
def test_weights_are_rounded_to_the_upload_s_type_where_it_holds_them_and_scales_are_not(
    tmp_path: Path, factor: float, kept: ir.DataType
) -> None:
    weight = (factor * np.random.default_rng(0).standard_normal((16, 1000))).astype(np.float32)
    graph = linear(weight)
    store(graph, tmp_path / "stored.onnx")
    proto = onnx.load(tmp_path / "stored.onnx")
    names = {t.name: ir.DataType(t.data_type) for t in proto.graph.initializer}
    assert names == {("w_stored" if kept == HALF else "w"): kept, "s": FLOAT}
    again = load(tmp_path / "stored.onnx")
    assert stored_type(again) == (HALF if kept == HALF else None)
    back = constant(again.graph.initializers["w"])
    wanted = weight.astype(np.float16).astype(np.float32) if kept == HALF else weight
    np.testing.assert_array_equal(back, wanted)
    assert [node.op_type for node in again.graph] == ["MatMul", "Mul"]


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_one_narrow_constant_does_not_round_the_weights_beside_it(
    tmp_path: Path, dtype: int
) -> None:
    random = np.random.default_rng(0)
    weights = [random.standard_normal((40, width)).astype(np.float32) for width in (40, 10)]
    narrow = helper.make_tensor("narrow", dtype, [40, 10], weights[1].ravel())
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Cast", ["narrow"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["m", "wide"], ["y"]),
    ]
    ends = [value("x", "N", 40)], [value("y", "N", 10)]
    upload = write(model(nodes, *ends, [tensor("w", weights[0]), narrow]), tmp_path / "upload")
    inspect_model(upload, tmp_path)
    graph, stored = load(tmp_path / "model.onnx"), tmp_path / "stored.onnx"
    store(graph, stored)
    kinds = {t.name: t.data_type for t in onnx.load(stored).graph.initializer}
    assert sorted(kinds.values()) == sorted([TensorProto.FLOAT, dtype])
    assert stored_type(graph) is None, "most of it is float32"
    np.testing.assert_array_equal(constant(graph.graph.initializers["w"]), weights[0])
    trained = graph.graph.initializers["wide"]
    exact = constant(trained) + np.float32(1e-6)
    trained.const_value = ir.Tensor(exact, name="wide")
    store(graph, stored)
    np.testing.assert_array_equal(constant(load(stored).graph.initializers["wide"]), exact)


def test_storing_is_repeatable(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((16, 1000)).astype(np.float32)
    store(linear(weight), tmp_path / "first.onnx")
    store(load(tmp_path / "first.onnx"), tmp_path / "second.onnx")
    first, second = ((tmp_path / f"{n}.onnx").read_bytes() for n in ("first", "second"))
    assert first == second


def test_half_weights_past_one_file_are_read_when_they_are_needed(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((16, 1000)).astype(np.float32)
    store(linear(weight), tmp_path / "stored.onnx")
    proto = onnx.load(tmp_path / "stored.onnx")
    outside = {"save_as_external_data": True, "location": "big.onnx.data", "size_threshold": 0}
    onnx.save(proto, tmp_path / "big.onnx", **outside)
    graph = load(tmp_path / "big.onnx")
    assert isinstance(graph.graph.initializers["w"].const_value, ir.LazyTensor)
    store(graph, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "stored.onnx").read_bytes()
