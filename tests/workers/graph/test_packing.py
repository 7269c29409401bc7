"""Packed constants: smaller files, the same numbers, the same nodes once a session is open."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.workers import zoo
from workers.compression.graph import runtime
from workers.compression.graph.editor import constant
from workers.compression.graph.fingerprint import fingerprint
from workers.compression.graph.forms import stored_bytes
from workers.compression.graph.load import load, save
from workers.compression.graph.packing import packed, unpack
from workers.compression.methods.quantize import integers

WEIGHTS = 2048
"""Elements of what is packed here, at least."""


def weights(model: ir.Model) -> list[ir.Value]:
    """Return the large floats of a graph."""
    values = model.graph.initializers.values()
    return [v for v in values if v.dtype == ir.DataType.FLOAT and constant(v).size >= WEIGHTS]


def change(model: ir.Model, zeros: float, grid: str | None) -> None:
    """Set a share of each large weight to zero, and round it to a grid by its first axis."""
    random = np.random.default_rng(0)
    for value in weights(model):
        array = constant(value) * (random.random(constant(value).shape) >= zeros)
        if grid is not None:
            found = integers.weight_grid(array.astype(np.float32), grid, 0)
            array = integers.dequantize(integers.quantize(array, found), found)
        value.const_value = ir.Tensor(array.astype(np.float32) + np.float32(0), name=value.name)


@pytest.mark.parametrize(
    ("zeros", "grid", "smaller"),
    [(0.8, None, 4.2), (0.95, None, 15), (0.0, "int8", 3.9), (0.8, "int8", 12), (0.0, "int4", 7.7),
     (0.9, "int4", 27)],
)  # fmt: skip
def test_a_large_weight_takes_so_much_less(
    tmp_path: Path, zeros: float, grid: str | None, smaller: float
) -> None:
    model = single(np.random.default_rng(1).standard_normal((400, 500)).astype(np.float32))
    change(model, zeros, grid)
    save(model, tmp_path / "plain.onnx")
    save(packed(model), tmp_path / "packed.onnx")
    before, after = ((tmp_path / f"{n}.onnx").stat().st_size for n in ("plain", "packed"))
    assert before > smaller * after
    stored = stored_bytes(constant(model.graph.initializers["w"]))
    assert stored < after < stored + 2000


@pytest.mark.parametrize(("zeros", "grid"), [(0.8, None), (0.0, "int8"), (0.9, "int4")])
@pytest.mark.parametrize("net", ["residual", "vit", "bert", "encoder_decoder"])
def test_networks_are_smaller_in_the_file_and_the_same_in_memory(
    tmp_path: Path, net: str, zeros: float, grid: str | None
) -> None:
    model = zoo.graph(net)
    change(model, zeros, grid)
    save(model, tmp_path / "plain.onnx")
    save(packed(model), tmp_path / "packed.onnx")
    onnx.checker.check_model(str(tmp_path / "packed.onnx"))
    large = sum(constant(value).nbytes for value in weights(model))
    stored = sum(stored_bytes(constant(value)) for value in weights(model))
    saved = (tmp_path / "plain.onnx").stat().st_size - (tmp_path / "packed.onnx").stat().st_size
    assert saved > (large - stored) - 1500 * len(weights(model))
    assert fingerprint(load(tmp_path / "packed.onnx")) == fingerprint(model)


@pytest.mark.parametrize("net", ["residual", "bert", "encoder_decoder"])
def test_a_session_has_the_nodes_and_answers_of_the_plain_graph(tmp_path: Path, net: str) -> None:
    """Once it is open nothing is left to unpack, so a run takes as long."""
    model = zoo.graph(net)
    change(model, 0.8, "int8")
    answers, operators = [], []
    for name, graph in (("plain", model), ("packed", packed(model))):
        save(graph, tmp_path / f"{name}.onnx")
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{name}_optimized.onnx")
        options.log_severity_level = 4
        session = ort.InferenceSession(
            tmp_path / f"{name}.onnx", options, providers=["CPUExecutionProvider"]
        )
        feeds = {key: tensor.numpy() for key, tensor in zoo.feeds(net, 2).items()}
        answers.append(runtime.run(session, feeds))
        proto = onnx.load(tmp_path / f"{name}_optimized.onnx")
        operators.append(sorted(node.op_type for node in proto.graph.node))
    assert operators[0] == operators[1]
    for output, wanted in answers[0].items():
        np.testing.assert_array_equal(answers[1][output], wanted)


def single(array: NDArray[np.generic]) -> ir.Model:
    """Return a graph that multiplies its input, elementwise, by an array."""
    kind = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    given_, weight = (
        ir.Value(name=name, shape=ir.Shape(array.shape), type=kind) for name in ("x", "w")
    )
    weight.const_value = ir.Tensor(array, name="w")
    node = ir.node("Add", [given_, weight], num_outputs=1)
    node.outputs[0].name, node.outputs[0].type = "y", kind
    graph = ir.Graph(
        [given_],
        node.outputs,
        nodes=[node],
        initializers=[weight],
        opset_imports={"": 21},
        name="g",
    )
    return ir.Model(graph, ir_version=10)


@given(
    rows=st.integers(1, 80),
    columns=st.integers(60, 200),
    zeros=st.floats(0, 1),
    dtype=st.sampled_from(["float32", "float16", "int8", "uint8"]),
    top=st.sampled_from([3, 7, 100, 127]),
    opset=st.sampled_from([13, 17, 21]),
    axis=st.sampled_from([None, 0, 1]),
    seed=st.integers(0, 2**20),
)
@settings(max_examples=60)
def test_any_array_comes_back_as_it_was(
    rows: int, columns: int, zeros: float, dtype: str, top: int, axis: int | None, opset: int,
    seed: int,
) -> None:  # fmt: skip
    random = np.random.default_rng(seed)
    levels = random.integers(-top, top + 1, (rows, columns))
    levels[random.random(levels.shape) < zeros] = 0
    steps: NDArray[np.float32] = np.ones((), np.float32)
    if dtype == "float32":
        shape = tuple(size if place == axis else 1 for place, size in enumerate(levels.shape))
        steps = random.uniform(1e-6, 10, shape).astype(np.float32)
    array = (levels * steps).astype(dtype)
    model = single(array)
    model.graph.opset_imports[""] = opset
    small = packed(model)
    unpack(small)
    assert fingerprint(small) == fingerprint(model)
    assert stored_bytes(array) <= array.nbytes


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("w_size", np.array([2**40])),
        ("w_shape", np.array([3, 5])),
        ("w_gaps", np.full(1, 255, np.uint8)),
    ],
)
def test_impossible_forms_are_left_alone(name: str, array: NDArray[np.generic]) -> None:
    """A hostile upload may name any size and position."""
    random = np.random.default_rng(0)
    small = packed(single((random.random((90, 90)) * (random.random((90, 90)) < 0.3)).astype("f4")))
    if name == "w_gaps":
        array = np.full(constant(small.graph.initializers[name]).shape, 255, np.uint8)
    small.graph.initializers[name].const_value = ir.Tensor(array)
    unpack(small)
    assert "w" not in small.graph.initializers
    assert "w_values" in small.graph.initializers
