"""A Sigmoid that multiplies integers returns integers; any other stays in float."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from app.domain.steps import Quantize
from tests.workers.engine.stored import drawn, named, store_graph
from tests.workers.intake.models import value
from workers.compression.graph import runtime
from workers.compression.methods.quantize import quantize
from workers.compression.samples.context import Context, Samples

X = np.random.default_rng(3).standard_normal((96, 8, 6, 6)).astype(np.float32)


def activated(path: Path, *, also: str | None = None) -> None:
    """Store two convolutions with a SiLU between them, and another reader of its Sigmoid."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "first"),
        helper.make_node("Sigmoid", ["a"], ["s"], "gate"),
        helper.make_node("Mul", ["a", "s"], ["m"], "silu"),
        helper.make_node("Conv", ["m", "w2"], ["y"], "second"),
    ]
    outputs = [value("y", "N", 16, 4, 4)]
    if also is not None:
        nodes.append(helper.make_node(also, ["s"], ["z"], "reader"))
        outputs.append(value("z", "N", 16, 4, 4))
    weights = drawn(np.random.default_rng(1), {"w1": (16, 8, 3, 3), "w2": (16, 16, 1, 1)})
    store_graph(path, nodes, [value("x", "N", 8, 6, 6)], outputs, weights)


def quantized(path: Path, **settings: Any) -> ir.Model:
    context = Context(Samples({"x": X}, None, range(64)), seed=0, threads=1)
    parameters = Quantize(mode="static", force=True, smooth=False, ranges="minmax", **settings)
    return quantize(named(path), parameters, context, lambda _: None).model


def readers_of_sigmoid(model: ir.Model) -> set[str]:
    (sigmoid,) = (node for node in model.graph if node.op_type == "Sigmoid")
    return {reader.op_type for reader in sigmoid.outputs[0].consumers()}


@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_silu_computes_in_integers(tmp_path: Path, activations: str) -> None:
    activated(tmp_path / "model.onnx")
    model = quantized(tmp_path / "model.onnx", activations=activations)
    assert readers_of_sigmoid(model) == {"QuantizeLinear"}
    expected = runtime.run(runtime.open_session(tmp_path / "model.onnx"), {"x": X[64:]})["y"]
    error = runtime.run(runtime.session_of(model), {"x": X[64:]})["y"] - expected
    assert np.square(error).mean() < 0.001 * expected.var()


def test_a_sigmoid_that_something_else_reads_stays_in_float(tmp_path: Path) -> None:
    activated(tmp_path / "model.onnx", also="Sqrt")
    assert readers_of_sigmoid(quantized(tmp_path / "model.onnx")) == {"Mul", "Sqrt"}


@pytest.mark.parametrize("settings", [{"symmetric": True}, {"activations": "uint4"}], ids=str)
def test_levels_that_would_be_too_few_are_not_used(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    activated(tmp_path / "model.onnx")
    assert readers_of_sigmoid(quantized(tmp_path / "model.onnx", **settings)) == {"Mul"}


def test_a_sigmoid_of_a_layer_in_float_stays_in_float(tmp_path: Path) -> None:
    activated(tmp_path / "model.onnx")
    model = quantized(tmp_path / "model.onnx", ignore=["first"])
    assert readers_of_sigmoid(model) == {"Mul"}
