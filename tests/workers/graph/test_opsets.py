"""A graph of any opset becomes one of opset 21 that computes the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.workers.graph.normal import normal, operators
from tests.workers.intake.models import model, tensor, value
from workers.compression.graph.operators import OPSET

RANDOM = np.random.default_rng(0)
Weights = dict[str, Any]


def weights(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def node(operator: str, inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), ["y"], operator.lower(), **attributes)


def image(
    opset: int, nodes: Sequence[onnx.NodeProto], constants: Weights, *shape: int | str
) -> onnx.ModelProto:
    """Return a graph from ``x`` ``[N, 4, 8, 8]`` to ``y`` of the given shape."""
    inits = [tensor(name, array) for name, array in constants.items()]
    return model(nodes, [value("x", "N", 4, 8, 8)], [value("y", *shape)], inits, opset)


SAME = ("N", 4, 8, 8)
BATCHNORM = {name: np.abs(weights(4)) + 0.5 for name in ("s", "b", "m", "v")}
DOUBLE = {"k": np.array([1, 1, 2, 2], np.float32)}

CASES: dict[str, tuple[list[int], onnx.NodeProto, Weights, tuple[int | str, ...]]] = {
    "upsampled by an attribute": (
        [7, 8],
        node("Upsample", "x", scales=[1.0, 1.0, 2.0, 2.0], mode="nearest"),
        {},
        ("N", 4, 16, 16),
    ),
    "upsampled linearly": ([9], node("Upsample", "x k", mode="linear"), DOUBLE, ("N", 4, 16, 16)),
    "resized linearly": ([10], node("Resize", "x k", mode="linear"), DOUBLE, ("N", 4, 16, 16)),
    "softmax over all behind axis 1": ([7, 9, 11, 12], node("Softmax", "x", axis=1), {}, SAME),
    "normalised": ([7, 9, 11, 13], node("BatchNormalization", "x s b m v"), BATCHNORM, SAME),
    "cut off": ([7, 9, 10], node("Clip", "x", min=0.0, max=6.0), {}, SAME),
    "padded": (
        [7, 10],
        node("Pad", "x", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=1.5),
        {},
        ("N", 4, 10, 10),
    ),
    "sliced": (
        [7, 9],
        node("Slice", "x", axes=[2, 3], starts=[1, 0], ends=[7, -1]),
        {},
        ("N", 4, 6, 7),
    ),
    "unsqueezed": ([7, 11], node("Unsqueeze", "x", axes=[1]), {}, ("N", 1, 4, 8, 8)),
    "averaged": (
        [7, 11, 13, 17],
        node("ReduceMean", "x", axes=[2, 3], keepdims=0),
        {},
        ("N", 4),
    ),
    "summed": ([7, 11], node("ReduceSum", "x", axes=[2, 3], keepdims=0), {}, ("N", 4)),
    "dropped out": ([7, 10, 11], node("Dropout", "x", ratio=0.5), {}, SAME),
    "pooled": (
        [7, 10, 11, 12, 17, 20, 22],
        node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2]),
        {},
        ("N", 4, 4, 4),
    ),
    "convolved": (
        [7, 9, 11, 13, 17, 20, 22],
        node("Conv", "x w b", pads=[1, 1, 1, 1]),
        {"w": weights(6, 4, 3, 3), "b": weights(6)},
        ("N", 6, 8, 8),
    ),
    "normalised by the root": (
        [23],
        node("RMSNormalization", "x s"),
        {"s": weights(8)},
        SAME,
    ),
    "activated": ([24], node("Swish", "x", alpha=1.5), {}, SAME),
}


@pytest.mark.parametrize(
    ("name", "opset"), [(name, opset) for name, case in CASES.items() for opset in case[0]]
)
def test_a_graph_of_any_opset_becomes_one_of_the_one_opset(
    tmp_path: Path, name: str, opset: int
) -> None:
    _, each, constants, shape = CASES[name]
    graph = normal(image(opset, [each], constants, *shape), tmp_path)
    assert graph.graph.opset_imports[""] == OPSET
    assert graph.ir_version >= 10


@pytest.mark.parametrize("opset", [7, 10, 11])
def test_branches_are_lifted_too(tmp_path: Path, opset: int) -> None:
    def side(name: str, factor: float) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Unsqueeze", ["x"], [f"{name}_u"], axes=[0]),
            helper.make_node("Mul", [f"{name}_u", f"{name}_f"], [f"{name}_m"]),
            helper.make_node("Squeeze", [f"{name}_m"], [f"{name}_y"], axes=[0]),
        ]
        inits = [tensor(f"{name}_f", np.float32(factor))]
        return helper.make_graph(nodes, name, [], [value(f"{name}_y", *SAME)], inits)

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], then_branch=side("t", 2), else_branch=side("e", 3)),
    ]
    graph = normal(image(opset, nodes, {}, *SAME), tmp_path)
    assert graph.graph.opset_imports[""] == OPSET
    assert operators(graph)["If"] == 1


@pytest.mark.parametrize(("opset", "operator"), [(9, "Upsample"), (10, "Resize")])
def test_pixels_within_a_graph_are_counted_from_their_corner(
    tmp_path: Path, opset: int, operator: str
) -> None:
    """The converter gives another name to what it makes, unless that is an output."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node(operator, ["r", "k"], ["u"], mode="linear"),
        helper.make_node("Relu", ["u"], ["y"]),
    ]
    graph = normal(image(opset, nodes, DOUBLE, "N", 4, 16, 16), tmp_path)
    assert graph.graph.opset_imports[""] == OPSET


def test_attention_of_opset_23_is_written_out(tmp_path: Path) -> None:
    attention = helper.make_node("Attention", ["x", "x", "x"], ["y"], q_num_heads=2, kv_num_heads=2)
    proto = model([attention], [value("x", "N", 5, 8)], [value("y", "N", 5, 8)], opset=23)
    graph = normal(proto, tmp_path)
    assert graph.graph.opset_imports[""] == OPSET
    assert operators(graph)["MatMul"] == 2


def test_a_softmax_over_the_last_axis_stays_one_operator(tmp_path: Path) -> None:
    """The converter flattens for it where it does not know the rank, as behind this Reshape."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n"], ["u"], axes=[0]),
        helper.make_node("Concat", ["u", "sizes"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("Softmax", ["r"], ["y"], "softmax", axis=2),
    ]
    constants = {"zero": np.array(0), "sizes": np.array([16, 16])}
    found = operators(normal(image(11, nodes, constants, "N", 16, 16), tmp_path))
    assert found["Flatten"] == 0
    assert found["Reshape"] == found["Softmax"] == 1
