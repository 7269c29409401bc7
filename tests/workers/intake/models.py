"""Small models that the intake's tests upload, whole or bent."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.domain.problems import InvalidModel
from workers.compression.intake.inspect import inspect_model

FLOAT = TensorProto.FLOAT


def value(name: str, *shape: int | str, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, list(shape))


def tensor(name: str, array: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    opset: int = 17,
    **more: Any,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(weights))
    imports = [helper.make_opsetid("", opset), *more.pop("imports", [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=9, **more)


def mlp(hidden: int = 8) -> onnx.ModelProto:
    """Return ``[N, 4] → [N, 3]``: two Gemms and a Relu, with constants to fold."""
    generator = np.random.default_rng(0)
    first = generator.standard_normal((4, hidden)).astype(np.float32)
    second = generator.standard_normal((hidden, 3)).astype(np.float32)
    return model(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], "first"),
            helper.make_node("Relu", ["h"], ["r"], "relu"),
            helper.make_node("Identity", ["r"], ["i"], "identity"),
            helper.make_node("Gemm", ["i", "w2", "b2"], ["y"], "second"),
        ],
        [value("x", "N", 4)],
        [value("y", "N", 3)],
        [
            tensor("w1", first),
            tensor("b1", np.zeros(hidden, np.float32)),
            tensor("w2", second),
            tensor("b2", np.ones(3, np.float32)),
        ],
    )


def convnet() -> onnx.ModelProto:
    """Return ``[N, 3, H, W] → [N, 5]``: convolution, normalisation, pooling, classifier."""
    generator = np.random.default_rng(1)
    ones, zeros = np.ones(6, np.float32), np.zeros(6, np.float32)
    return model(
        [
            helper.make_node("Conv", ["x", "k"], ["c"], "conv", pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"], "norm"),
            helper.make_node("Relu", ["n"], ["r"], "relu"),
            helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
            helper.make_node("Flatten", ["p"], ["f"], "flatten"),
            helper.make_node("MatMul", ["f", "w"], ["a"], "classifier"),
            helper.make_node("Add", ["a", "bias"], ["y"], "bias_add"),
        ],
        [value("x", "N", 3, "H", "W")],
        [value("y", "N", 5)],
        [
            tensor("k", generator.standard_normal((6, 3, 3, 3)).astype(np.float32)),
            tensor("g", ones),
            tensor("b", zeros),
            tensor("m", zeros),
            tensor("v", ones),
            tensor("w", generator.standard_normal((6, 5)).astype(np.float32)),
            tensor("bias", np.ones(5, np.float32)),
        ],
    )


def branch() -> onnx.ModelProto:
    """Return a model with an If whose branches hold their own weights."""

    def side(name: str, factor: float) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node("Mul", ["x", f"{name}_w"], [f"{name}_y"])],
            name,
            [],
            [value(f"{name}_y", "N", 2)],
            [tensor(f"{name}_w", np.full(2, factor, np.float32))],
        )

    return model(
        [
            helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
            helper.make_node("Greater", ["s", "zero"], ["c"]),
            helper.make_node(
                "If", ["c"], ["y"], then_branch=side("then", 2), else_branch=side("else", 3)
            ),
        ],
        [value("x", "N", 2)],
        [value("y", "N", 2)],
        [tensor("zero", np.float32(0))],
    )


def externalize(
    stored: onnx.TensorProto, location: str, length: int | None = None, **more: str
) -> onnx.TensorProto:
    """Turn a tensor into one whose data is said to lie in ``location``."""
    size = len(stored.raw_data) if length is None else length
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    for key, text in {"location": location, "length": str(size), **more}.items():
        entry = stored.external_data.add()
        entry.key, entry.value = key, text
    return stored


def write(proto: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


def refused(upload: Path, words: str) -> None:
    """Assert that an upload is refused in words that match."""
    directory = upload.parent / "job"
    directory.mkdir()
    with pytest.raises(InvalidModel, match=words):
        inspect_model(upload, directory)
