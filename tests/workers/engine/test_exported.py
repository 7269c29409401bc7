"""Programs of torch that formats are made of: converters export them again, and refuse nodes."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper

from tests.workers.intake.models import model, tensor, value, write
from workers.compression.delivery.exported import program
from workers.compression.delivery.grids import Grids
from workers.tools.culprit import first_refused


@pytest.mark.parametrize("float_weights", [False, True])
def test_a_program_is_exported_again_as_converters_do(tmp_path: Path, float_weights: bool) -> None:
    """A few numbers that could be a shape are indices in it."""
    text = """
    <ir_version: 9, opset_import: ["": 21]>
    net (float[1, 3, 4] x) => (float[1, 3, 4] y)
    <int64[1, 3] places = {0, 1, 2}, float step = {0.02}> {
        table = DequantizeLinear(integers, step)
        rows = Gather(table, places)
        y = Add(x, rows)
    }
    """
    integers = np.arange(12, dtype=np.int8).reshape(3, 4)
    ir.save(
        ir.from_onnx_text(text, initializers=[ir.tensor(integers, name="integers")]),
        tmp_path / "m.onnx",
    )
    x = np.ones((1, 3, 4), np.float32)
    exported = program(tmp_path / "m.onnx", {"x": x}, Grids(float_weights=float_weights))
    torch.export.save(exported, tmp_path / "m.pt2")
    read = torch.export.load(tmp_path / "m.pt2").module()
    again = torch.export.export(read, (torch.from_numpy(x),), strict=False)
    [y] = again.module()(torch.from_numpy(x))
    assert y.numpy() == pytest.approx(x + 0.02 * integers)


def test_a_program_whose_output_is_a_number_of_its_own_is_saved(tmp_path: Path) -> None:
    """A loop that gives its last counter."""
    text = """
    <ir_version: 9, opset_import: ["": 21]>
    net (float[1, 3] x) => (float[1, 3] y, int64 last)
    <int64 rounds = {2}, bool go = {1}, int64 before = {0}> {
        y, last = Loop(rounds, go, x, before) <
            body = turn (
                int64 i, bool on, float[1, 3] a, int64 b
            ) => (bool still, float[1, 3] c, int64 d) {
                still = Identity(on)
                c = Add(a, a)
                d = Identity(i)
            }>
    }
    """
    ir.save(ir.from_onnx_text(text), tmp_path / "m.onnx")
    exported = program(tmp_path / "m.onnx", {"x": np.ones((1, 3), np.float32)}, Grids())
    torch.export.save(exported, tmp_path / "m.pt2")
    y, last = torch.export.load(tmp_path / "m.pt2").module()(torch.ones(1, 3))
    assert y.tolist() == [[4.0, 4.0, 4.0]]
    assert int(last) == 1


def test_no_node_is_named_where_no_beginning_is_refused(tmp_path: Path) -> None:
    text = """
    <ir_version: 9, opset_import: ["": 21]>
    net (float[1, 3] x) => (float[1, 3] y) { a = Relu(x) b = Sigmoid(a) y = Tanh(b) }
    """
    ir.save(ir.from_onnx_text(text), tmp_path / "m.onnx")
    exported = program(tmp_path / "m.onnx", {"x": np.ones((1, 3), np.float32)}, Grids())
    assert first_refused(exported, lambda _beginning: False) is None
    assert first_refused(exported, lambda beginning: "sigmoid" in str(beginning.graph)) == (
        "'b' (Sigmoid)"
    )


def test_a_program_for_litert_computes_in_float32(tmp_path: Path) -> None:
    """LiteRT's kernels do; the graph has halves where a step computes in float16."""
    table, weight = (np.ones(shape, np.float16) for shape in ((9, 8), (8, 4)))
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["half"]),
        helper.make_node("Cast", ["half"], ["y"], to=TensorProto.FLOAT),
    ]
    ends = [value("x", 2, dtype=TensorProto.INT64)], [value("y", 2, 4)]
    halves = model(nodes, *ends, [tensor("table", table), tensor("w", weight)], opset=21)
    path = write(halves, tmp_path / "halves.onnx")
    for in_float32 in (True, False):
        exported = program(path, {"x": np.array([1, 8])}, Grids(in_float32=in_float32))
        types = {getattr(node.meta.get("val"), "dtype", None) for node in exported.graph.nodes}
        assert (torch.float16 in types) != in_float32
