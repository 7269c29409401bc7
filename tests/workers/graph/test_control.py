"""Branches that are always taken and loops that run a known number of times are written out."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.workers.graph.normal import normal, operators
from tests.workers.intake.models import model, tensor, value
from workers.compression.graph import stats

BOOL, INT = TensorProto.BOOL, TensorProto.INT64


def side(name: str, operator: str, *more: onnx.NodeProto) -> onnx.GraphProto:
    nodes = [*more, helper.make_node(operator, ["x"], [f"{name}_y"], f"{name}_node")]
    return helper.make_graph(nodes, name, [], [value(f"{name}_y", "N", 4)])


def choice(condition: str, output: str, then: onnx.GraphProto, other: onnx.GraphProto) -> Any:
    return helper.make_node("If", [condition], [output], then_branch=then, else_branch=other)


def graph_of(nodes: list[onnx.NodeProto], *inits: onnx.TensorProto) -> onnx.ModelProto:
    return model(nodes, [value("x", "N", 4)], [value("y", "N", 4)], inits)


def test_a_branch_that_is_always_taken_takes_the_place_of_its_if(tmp_path: Path) -> None:
    nodes = [choice("c", "y", side("t", "Neg"), side("e", "Exp"))]
    assert operators(normal(graph_of(nodes, tensor("c", np.array(False))), tmp_path)) == {"Exp": 1}


def test_a_condition_on_a_known_size_is_known(tmp_path: Path) -> None:
    """Exporters of ``x.squeeze()`` ask the shape; only one of its dimensions need be known."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["d"], axis=0),
        helper.make_node("Equal", ["d", "four"], ["c"]),
        choice("c", "y", side("t", "Neg"), side("e", "Exp")),
    ]
    inits = tensor("one", np.array(1)), tensor("four", np.array(4))
    assert operators(normal(graph_of(nodes, *inits), tmp_path)) == {"Neg": 1}


def test_branches_in_branches_are_inlined_and_names_stay_unique(tmp_path: Path) -> None:
    def nested(name: str) -> onnx.GraphProto:
        inner = choice("c", f"{name}_y", side("t", "Neg"), side("e", "Exp"))
        return helper.make_graph([inner], name, [], [value(f"{name}_y", "N", 4)])

    nodes = [
        choice("c", "first", nested("t1"), nested("e1")),
        choice("c", "second", nested("t2"), nested("e2")),
        helper.make_node("Add", ["first", "second"], ["y"]),
    ]
    graph = normal(graph_of(nodes, tensor("c", np.array(True))), tmp_path)
    assert operators(graph) == {"Neg": 2, "Add": 1}
    assert len({node.name for node in graph.graph}) == 3


def test_a_branch_that_depends_on_the_input_stays(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["c"]),
        choice("c", "y", side("t", "Neg"), side("e", "Exp")),
    ]
    graph = normal(graph_of(nodes, tensor("zero", np.float32(0))), tmp_path)
    assert operators(graph)["If"] == 1


def loop(trips: str, condition: str = "") -> onnx.NodeProto:
    """Return a Loop that doubles ``x`` each time, and hands out what it had."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["v", "v"], ["w"], "double"),
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Identity", ["v"], ["row"]),
        ],
        "body",
        [value("i", dtype=INT), value("go", dtype=BOOL), value("v", "N", 4)],
        [value("on", dtype=BOOL), value("w", "N", 4), value("row", "N", 4)],
    )
    return helper.make_node("Loop", [trips, condition, "x"], ["last", "rows"], "loop", body=body)


def summed() -> onnx.NodeProto:
    return helper.make_node("ReduceSum", ["rows", "first"], ["sum"], keepdims=0)


def test_a_short_loop_of_known_length_is_unrolled(tmp_path: Path) -> None:
    nodes = [loop("m"), summed(), helper.make_node("Sub", ["last", "sum"], ["y"])]
    inits = tensor("m", np.array(3)), tensor("first", np.array([0]))
    found = operators(normal(graph_of(nodes, *inits), tmp_path))
    assert found["Loop"] == 0
    assert found["Add"] == 3
    assert found["Concat"] == 1


def test_a_long_loop_and_one_of_unknown_length_stay(tmp_path: Path) -> None:
    rest = [summed(), helper.make_node("Sub", ["last", "sum"], ["y"])]
    first = tensor("first", np.array([0]))
    long = graph_of([loop("m"), *rest], tensor("m", np.array(65)), first)
    assert operators(normal(long, tmp_path))["Loop"] == 1
    counted = [
        helper.make_node("Shape", ["x"], ["s"], end=1),
        helper.make_node("Squeeze", ["s"], ["m"]),
    ]
    unknown = graph_of([*counted, loop("m"), *rest], first)
    assert operators(normal(unknown, tmp_path))["Loop"] == 1


def test_all_trips_of_a_loop_that_is_unrolled_read_the_same_weight(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["in", "w"], ["next"]),
        helper.make_node("Identity", ["go"], ["on"]),
    ]
    ends = [value("trip", dtype=INT), value("go", dtype=BOOL), value("in", "N", 4)]
    body = helper.make_graph(
        nodes, "body", ends, [value("on", dtype=BOOL), value("next", "N", 4)], [tensor("w", weight)]
    )
    turns = helper.make_node("Loop", ["three", "", "x"], ["y"], body=body)
    graph = normal(graph_of([turns], tensor("three", np.array(3))), tmp_path)
    assert operators(graph) == {"MatMul": 3}
    assert stats.measure(graph, {"N": 1}).parameters == 16


def test_weights_that_both_branches_hold_count_once(tmp_path: Path) -> None:
    def product(name: str, weight: np.ndarray) -> onnx.GraphProto:
        node = helper.make_node("MatMul", ["x", f"{name}_w"], [f"{name}_y"])
        inits = [tensor(f"{name}_w", weight)]
        return helper.make_graph([node], name, [], [value(f"{name}_y", "N", 4)], inits)

    weight = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    for other, parameters in ((weight, 16), (weight + 1, 32)):
        nodes = [
            helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
            helper.make_node("Greater", ["s", "zero"], ["c"]),
            choice("c", "y", product("t", weight), product("e", other)),
        ]
        graph = normal(graph_of(nodes, tensor("zero", np.float32(0))), tmp_path)
        assert stats.measure(graph, {"N": 1}).parameters == parameters
