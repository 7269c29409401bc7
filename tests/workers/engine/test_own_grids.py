"""Boxes in pixels and scores from 0 to 1 that one convolution gives are rounded apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from app.domain.steps import Quantize
from tests.workers.engine.stored import named, store_graph
from tests.workers.intake.models import tensor, value
from workers.compression.graph import runtime
from workers.compression.graph.load import load
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import quantize
from workers.compression.methods.quantize.own_grids import groups_of, with_own_grids
from workers.compression.samples.context import Context, Samples

X = np.random.default_rng(3).standard_normal((96, 8, 6, 6)).astype(np.float32)
BOXES = [0, 1, 5, 6]
"""Channels that are pixels; the other six are scores."""


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40))
def test_groups_hold_every_channel_once_and_the_first_two_are_narrow(sizes: list[float]) -> None:
    magnitudes = np.array(sizes)
    groups = groups_of(magnitudes)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(sizes)))
    for group in groups[:2]:
        if magnitudes[group].max() > magnitudes.max() / 64:
            assert magnitudes[group].max() <= 8.001 * magnitudes[group].min()


def test_channels_that_are_always_zero_split_nothing() -> None:
    assert len(groups_of(np.array([0.0, 3.0, 0.0, 2.0]))) == 1
    assert len(groups_of(np.zeros(4))) == 1


def detector(path: Path, *, then: Sequence[str] = ()) -> None:
    """Store two convolutions; the second one gives boxes and scores.

    Args:
        path: the file.
        then: the operators that follow; a convolution is a third one.
    """
    rng = np.random.default_rng(1)
    scale = np.where(np.isin(np.arange(10), BOXES), 100.0, 0.2)[:, None, None, None]
    arrays = {
        "w1": rng.standard_normal((16, 8, 3, 3)) / 8,
        "w2": rng.standard_normal((10, 16, 1, 1)) / 4 * scale,
        "b2": rng.standard_normal(10) * scale[:, 0, 0, 0],
        "w3": rng.standard_normal((4, 10, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w2", "b2"], ["y"], "head"),
    ]
    channels, size = 10, 4
    for index, operator in enumerate(then):
        nodes[-1].output[0] = f"before{index}"
        weights = ["w3"] if operator == "Conv" else []
        sizes = {"kernel_shape": [2, 2]} if operator == "MaxPool" else {}
        nodes.append(
            helper.make_node(operator, [f"before{index}", *weights], ["y"], f"then{index}", **sizes)
        )
        channels = 4 if operator == "Conv" else channels
        size -= operator == "MaxPool"
    outputs = [value("y", "N", channels, size, size)]
    inits = [tensor(name, array.astype(np.float32)) for name, array in arrays.items()]
    store_graph(path, nodes, [value("x", "N", 8, 6, 6)], outputs, inits)


def run(path: Path, *, own_grids: bool) -> Outcome:
    """Quantize the detector by force."""
    context = Context(Samples({"x": X}, None, range(64)), seed=0, threads=1)
    parameters = Quantize(
        mode="static", force=True, smooth=False, ranges="minmax", own_grids=own_grids
    )
    graph = named(path)
    return quantize(graph, parameters, context, lambda _: None)


def answers(path: Path, outcome: Outcome | None = None) -> NDArray[Any]:
    """Return what a graph gives on samples that no step has seen."""
    session = runtime.open_session(path) if outcome is None else runtime.session_of(outcome.model)
    found: NDArray[Any] = runtime.run(session, {"x": X[64:]})["y"]
    return found


def test_scores_survive_beside_boxes(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    detector(path)
    scores = [channel for channel in range(10) if channel not in BOXES]
    expected = answers(path)[:, scores]

    def kept(*, own_grids: bool) -> float:
        error = answers(path, run(path, own_grids=own_grids))[:, scores] - expected
        return float(1 - np.square(error).mean() / expected.var())

    assert kept(own_grids=False) < 0.7
    assert kept(own_grids=True) > 0.99
    outcome = run(path, own_grids=True)
    assert "grids of their own: head." in " ".join(outcome.notes)
    assert {layer.node for layer in outcome.layers} == {"first", "head_part0", "head_part1"}


def test_the_float_graph_answers_as_before(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    detector(path)
    split = with_own_grids(load(path), Quantize(mode="static"), Samples({"x": X}, None, [0, 1]), 1)
    found = runtime.run(runtime.session_of(split.model), {"x": X})["y"]
    expected = runtime.run(runtime.open_session(path), {"x": X})["y"]
    assert split.nodes == ["head"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("then", [["Conv"], ["Sigmoid", "Conv"], ["Relu", "MaxPool", "Conv"]])
def test_what_another_convolution_follows_stays_whole(tmp_path: Path, then: list[str]) -> None:
    path = tmp_path / "model.onnx"
    detector(path, then=then)
    split = with_own_grids(load(path), Quantize(mode="static"), Samples({"x": X}, None, [0, 1]), 1)
    assert split.nodes == []


def test_operators_without_weights_may_follow(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    detector(path, then=["Relu", "MaxPool"])
    split = with_own_grids(load(path), Quantize(mode="static"), Samples({"x": X}, None, [0, 1]), 1)
    assert split.nodes == ["head"]
