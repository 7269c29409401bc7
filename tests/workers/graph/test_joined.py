"""Weights that are cut and joined in another order are folded, as long as nothing grows."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from tests.workers.graph.normal import normal, operators
from tests.workers.intake.models import model, tensor, value

_GATES = 64
"""Rows of each of two gates; a cut of one is too large to be folded by itself."""


def swapped(prefix: str) -> list[onnx.NodeProto]:
    """Nodes that multiply the input by a weight whose halves have changed their places."""

    def half(index: int) -> onnx.NodeProto:
        bounds = [f"bound{index}", f"bound{index + 1}", "axis"]
        return helper.make_node("Slice", ["w", *bounds], [f"{prefix}half{index}"])

    joined = [f"{prefix}half1", f"{prefix}half0"]
    return [
        half(0),
        half(1),
        helper.make_node("Concat", joined, [f"{prefix}swapped"], axis=0),
        helper.make_node("MatMul", ["x", f"{prefix}swapped"], [f"{prefix}out"]),
    ]


WEIGHT = np.random.default_rng(0).standard_normal((2 * _GATES, 64)).astype(np.float32)
CONSTANTS = [
    tensor("w", WEIGHT),
    *(tensor(f"bound{i}", np.array([i * _GATES], np.int64)) for i in range(3)),
    tensor("axis", np.array([0], np.int64)),
]
INPUT, OUTPUT = value("x", "N", 2 * _GATES), value("y", "N", 64)


def as_output(*read: str) -> onnx.NodeProto:
    return helper.make_node("Sum", list(read), ["y"])


def test_a_weight_whose_parts_change_their_places_is_one_weight(tmp_path: Path) -> None:
    graph = normal(model([*swapped(""), as_output("out")], [INPUT], [OUTPUT], CONSTANTS), tmp_path)
    (weight,) = graph.graph.initializers.values()
    assert weight.const_value is not None
    assert np.array_equal(
        weight.const_value.numpy(), np.concatenate([WEIGHT[_GATES:], WEIGHT[:_GATES]])
    )


def test_it_stays_where_others_read_it_as_it_is(tmp_path: Path) -> None:
    product = helper.make_node("MatMul", ["x", "w"], ["plain"])
    nodes = [*swapped(""), product, as_output("out", "plain")]
    graph = normal(model(nodes, [INPUT], [OUTPUT], CONSTANTS), tmp_path)
    assert operators(graph)["Concat"] == 1
    assert "w" in graph.graph.initializers


def test_a_branch_that_is_never_taken_reads_nothing(tmp_path: Path) -> None:
    def side(prefix: str) -> onnx.GraphProto:
        result = value(f"{prefix}out", "N", 64)
        return helper.make_graph(swapped(prefix), prefix, [], [result])

    chosen = helper.make_node(
        "If", ["always"], ["chosen"], then_branch=side("a"), else_branch=side("b")
    )
    constants = [*CONSTANTS, tensor("always", np.array(True))]
    nodes = [chosen, as_output("chosen")]
    graph = normal(model(nodes, [INPUT], [OUTPUT], constants), tmp_path)
    assert operators(graph)["Concat"] == 0
    assert "w" not in graph.graph.initializers
