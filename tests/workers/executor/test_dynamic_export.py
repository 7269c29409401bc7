"""Graphs become programs of torch.export that keep dynamic dimensions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import ModelProto, TensorProto, helper

from tests.workers.intake.models import model, tensor, value, write
from workers.compression.delivery.exported import program
from workers.compression.delivery.grids import Grids


def heads() -> ModelProto:
    """Return a graph that splits its last axis into heads, by a computed shape."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Gather", ["shape", "one"], ["length"]),
        helper.make_node("Unsqueeze", ["batch", "axes"], ["batches"]),
        helper.make_node("Unsqueeze", ["length", "axes"], ["lengths"]),
        helper.make_node("Concat", ["batches", "lengths", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["split"]),
        helper.make_node("Transpose", ["split"], ["y"], perm=[0, 2, 1, 3]),
    ]
    constants = [
        tensor("zero", np.array(0)), tensor("one", np.array(1)), tensor("axes", np.array([0])),
        tensor("rest", np.array([2, 3])),
    ]  # fmt: skip
    return model(nodes, [value("x", "N", "T", 6)], [value("y", "N", 2, "T", 3)], constants)


def places() -> ModelProto:
    """Return a graph that adds the first rows of a table, and a count of the elements."""
    table = np.arange(120, dtype=np.float32).reshape(20, 6)
    nodes = [
        helper.make_node("Shape", ["x"], ["length"], start=1, end=2),
        helper.make_node("Slice", ["table", "start", "length", "start"], ["rows"]),
        helper.make_node("Add", ["x", "rows"], ["placed"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ReduceProd", ["shape"], ["count"], keepdims=0),
        helper.make_node("Cast", ["count"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["placed", "number"], ["y"]),
    ]
    constants = [tensor("table", table), tensor("start", np.array([0]))]
    return model(nodes, [value("x", "N", "T", 6)], [value("y", "N", "T", 6)], constants)


def counted() -> ModelProto:
    """Return a graph that adds a size, picked by a constant condition, to integers."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Where", ["dynamic", "shape", "asked"], ["target"]),
        helper.make_node("Gather", ["target", "one"], ["length"]),
        helper.make_node("ArgMax", ["x"], ["place"], axis=2, keepdims=0),
        helper.make_node("Add", ["place", "length"], ["y"]),
    ]
    constants = [
        tensor("dynamic", np.array([True, True, False])), tensor("asked", np.array([0, 0, 6])),
        tensor("one", np.array(1)),
    ]  # fmt: skip
    outputs = [value("y", "N", "T", dtype=TensorProto.INT64)]
    return model(nodes, [value("x", "N", "T", 6)], outputs, constants)


def shares() -> ModelProto:
    """Return a graph that ends with a Softmax, as classifiers do."""
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Softmax", ["h"], ["y"])]
    return model(nodes, [value("x", "N", "T", 6)], [value("y", "N", "T", 6)], [])


def chosen() -> ModelProto:
    """Return a graph whose operators read a number from a tensor: how many, which axis."""
    nodes = [
        helper.make_node("TopK", ["x", "three"], ["largest", "places"]),
        helper.make_node("CumSum", ["largest", "axis"], ["sums"]),
        helper.make_node("Trilu", ["sums", "below"], ["y"]),
    ]
    constants = [
        tensor("three", np.array([3])), tensor("axis", np.array(1)), tensor("below", np.array(-1)),
    ]  # fmt: skip
    return model(nodes, [value("x", "N", "T", 6)], [value("y", "N", "T", 3)], constants)


def masked() -> ModelProto:
    """Return a graph whose mask is chosen from two numbers by what the input holds."""
    nodes = [
        helper.make_node("Less", ["x", "limit"], ["hidden"]),
        helper.make_node("Where", ["hidden", "never", "as_it_is"], ["mask"]),
        helper.make_node("Add", ["x", "mask"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["y"]),
    ]
    numbers = {"limit": -1.5, "never": -np.inf, "as_it_is": 0}
    constants = [tensor(name, np.array(n, np.float32)) for name, n in numbers.items()]
    return model(nodes, [value("x", "N", "T", 6)], [value("y", "N", "T", 6)], constants)


def enlarged() -> ModelProto:
    """Return a graph that resizes pictures by factors, of which that of the batch is one."""
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["picture"]),
        helper.make_node("Resize", ["picture", "", "factors"], ["y"], mode="linear"),
    ]
    constants = [
        tensor("axes", np.array([1])), tensor("factors", np.array([1, 1, 2, 1.5], np.float32)),
    ]  # fmt: skip
    return model(nodes, [value("x", "N", "T", 6)], [value("y", "N", 1, "2T", 9)], constants)


@pytest.mark.parametrize("make", [heads, places, counted, shares, chosen, masked, enlarged])
def test_computed_shapes_keep_dynamic_dimensions(
    tmp_path: Path, make: Callable[[], ModelProto]
) -> None:
    proto = make()
    proto.opset_import[0].version = 21
    path = write(proto, tmp_path / "model.onnx")
    exported = program(path, {"x": np.zeros((1, 4, 6), np.float32)}, Grids(), dynamic=True)
    module, session = exported.module(), ort.InferenceSession(path)
    for shape in ((1, 4, 6), (3, 7, 6), (2, 20, 6)):
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        (expected,) = session.run(None, {"x": x})
        (found,) = module(torch.from_numpy(x))
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)
