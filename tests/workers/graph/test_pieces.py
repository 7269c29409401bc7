"""A long graph answers in pieces what it answers as a whole."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from app.domain.problems import InvalidModel
from tests.workers.intake.models import model, tensor, value, write
from workers.compression.graph import runtime
from workers.compression.graph.pieces import open_graph

LENGTH = 40
COUNT = 2 * LENGTH + 20
FEEDS = {"x": np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)}


def long(extra: list[onnx.NodeProto], dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Return a graph of three pieces whose last nodes are ``extra``; values go far ahead."""
    draw = np.random.default_rng(0)
    nodes, names = [], ["x"]
    for index in range(COUNT):
        other = names[int(draw.integers(len(names)))]
        nodes.append(helper.make_node("Add", [names[-1], other], [f"s{index}"]))
        nodes.append(helper.make_node("Tanh", [f"s{index}"], [f"v{index}"]))
        names.append(f"v{index}")
    nodes = nodes[:COUNT]
    weights = [tensor("half", np.float32(0.5)), tensor("yes", np.array(True))]
    outputs = [value("y", "N", 2, dtype=dtype), value("v10", "N", 2)]
    return model([*nodes, *extra], [value("x", "N", 2)], outputs, weights)


def assert_same(path: Path, count: int) -> None:
    whole = runtime.run(runtime.open_session(path), FEEDS)
    run = open_graph(path, count, length=LENGTH)
    for _ in range(2):
        given = run(FEEDS, None)
        assert list(given) == list(whole)
        for name, wanted in whole.items():
            np.testing.assert_array_equal(given[name], wanted)


def test_values_that_go_far_ahead_arrive(tmp_path: Path) -> None:
    last = [helper.make_node("Mul", [f"v{COUNT // 2 - 1}", "half"], ["y"])]
    assert_same(write(long(last), tmp_path / "long.onnx"), COUNT + 1)


def test_what_a_branch_reads_from_outside_arrives(tmp_path: Path) -> None:
    def side(name: str) -> onnx.GraphProto:
        nodes = [helper.make_node("Mul", [name, "half"], [f"{name}_out"])]
        return helper.make_graph(nodes, name, [], [value(f"{name}_out", "N", 2)])

    last = [
        helper.make_node("If", ["yes"], ["y"], then_branch=side("v7"), else_branch=side("v9")),
    ]
    assert_same(write(long(last), tmp_path / "long.onnx"), COUNT + 1)


def test_types_that_numpy_lacks_go_from_piece_to_piece(tmp_path: Path) -> None:
    proto = long([helper.make_node("Cast", ["narrow"], ["y"], to=TensorProto.FLOAT)])
    proto.graph.node.insert(0, helper.make_node("Cast", ["x"], ["narrow"], to=TensorProto.BFLOAT16))
    assert_same(write(proto, tmp_path / "long.onnx"), COUNT + 2)


def test_a_graph_that_hands_sequences_on_is_run_as_a_whole(tmp_path: Path) -> None:
    proto = long([helper.make_node("SequenceAt", ["pair", "zero"], ["y"])])
    proto.graph.node.insert(0, helper.make_node("SequenceConstruct", ["x", "x"], ["pair"]))
    proto.graph.initializer.append(tensor("zero", np.array(0)))
    assert_same(write(proto, tmp_path / "long.onnx"), COUNT + 2)


def test_a_piece_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    proto = long([helper.make_node("Nonsense", ["v1"], ["y"], "odd")])
    run = open_graph(write(proto, tmp_path / "long.onnx"), COUNT + 1, length=LENGTH)
    with pytest.raises(InvalidModel, match="Nonsense"):
        run(FEEDS, None)
