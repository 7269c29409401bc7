"""A CastLike is a Cast: of a constant it is folded, and what hangs on it too."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from tests.workers.graph.normal import normal, operators
from tests.workers.intake.models import model, tensor, value
from workers.compression.graph.rewrites.castlike import spell_out_castlike


def test_a_normalisation_whose_constants_are_cast_like_its_input_is_folded(tmp_path: Path) -> None:
    """As torch exports it with ``optimize=False``: shift and scale, their types computed."""
    random = np.random.default_rng(0)
    weights = [
        tensor("w", random.standard_normal((8, 3, 3, 3), dtype=np.float32)),
        tensor("mean", random.standard_normal((8, 1, 1))),
        tensor("scale", random.standard_normal((8, 1, 1), dtype=np.float32)),
        tensor("epsilon", np.float64(1e-5)),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("CastLike", ["mean", "c"], ["m"]),
        helper.make_node("Sub", ["c", "m"], ["centred"]),
        helper.make_node("CastLike", ["epsilon", "scale"], ["e"]),
        helper.make_node("Add", ["scale", "e"], ["s"]),
        helper.make_node("CastLike", ["s", "x"], ["same"]),
        helper.make_node("Mul", ["centred", "same"], ["y"]),
    ]
    proto = model(nodes, [value("x", "n", 3, 6, 6)], [value("y", "n", 8, 4, 4)], weights)
    assert operators(normal(proto, tmp_path)) == {"Conv": 1}


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "in a branch"])
def test_what_is_computed_is_cast_to_the_type_that_is_known(inside: bool, tmp_path: Path) -> None:
    cast = helper.make_node("CastLike", ["i", "x"], ["f"], "cast")
    last = helper.make_node("Mul", ["f", "x"], ["z" if inside else "y"])
    nodes = [cast, last]
    if inside:
        branch = helper.make_graph(nodes, "then", [], [value("z", "n")])
        other = helper.make_graph(
            [helper.make_node("Neg", ["x"], ["o"])], "else", [], [value("o", "n")]
        )
        total = helper.make_node("ReduceMax", ["x"], ["t"], keepdims=0)
        flag = helper.make_node("Cast", ["t"], ["c"], to=onnx.TensorProto.BOOL)
        choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=other)
        nodes = [total, flag, choice]
    inputs = [value("x", "n"), value("i", "n", dtype=onnx.TensorProto.INT32)]
    graph = normal(model(nodes, inputs, [value("y", "n")]), tmp_path)
    [changed] = [node for node in graph.graph.all_nodes() if node.name == "cast"]
    assert changed.op_type == "Cast"
    assert changed.attributes.get_int("to") == onnx.TensorProto.FLOAT


def test_a_type_that_nothing_tells_stays_unknown() -> None:
    x, like = ir.Value(name="x", type=ir.TensorType(ir.DataType.INT32)), ir.Value(name="like")
    node = ir.node("CastLike", [x, like])
    graph = ir.Graph([x, like], node.outputs, nodes=[node], opset_imports={"": 21})
    model = ir.Model(graph, ir_version=10)
    assert spell_out_castlike(model) == 0
    assert [node.op_type for node in model.graph] == ["CastLike"]
