"""Elimination: which weights go, asked of the data, and how a graph runs piece by piece."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from app.domain.steps import Prune
from tests.workers import zoo
from tests.workers.digits import Trained
from workers.compression.graph.editor import constant
from workers.compression.graph.load import load
from workers.compression.methods.prune import obc
from workers.compression.methods.prune.piecewise import PiecewiseRun
from workers.compression.methods.prune.zeros import Mask, masks
from workers.compression.samples.context import Samples

OUTPUTS, INPUTS, KERNEL = 16, 40, 3
WAYS: list[dict[str, Any]] = [
    {"granularity": "unstructured", "sparsity": 0.6},
    {"granularity": "n:m", "n": 2, "m": 4},
    {"granularity": "n:m", "n": 1, "m": 7},
    {"granularity": "block", "block": [4, 3], "sparsity": 0.5},
]


def _layer() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a weight and the moments of inputs that hang together."""
    random = np.random.default_rng(0)
    mixed = random.normal(size=(12, INPUTS * KERNEL))
    x = random.normal(size=(500, 12)) @ mixed + 0.3 * random.normal(size=(500, INPUTS * KERNEL))
    return random.normal(size=(OUTPUTS, INPUTS, KERNEL)), x.T @ x + np.eye(INPUTS * KERNEL)


def _error(change: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    flat = change.reshape(OUTPUTS, -1)
    return float(np.trace(flat @ second @ flat.T))


def _chosen(way: dict[str, Any]) -> tuple[Mask, Mask, NDArray[np.float64]]:
    weight, second = _layer()
    step = Prune(**way, criterion="magnitude", scope="layer")
    like = masks({"w": weight**2}, step, step.sparsity)["w"]
    kept, left = obc.choose(weight, second, like, step)
    return like, kept, left


@pytest.mark.parametrize("way", WAYS)
def test_the_error_is_smaller_than_by_magnitude(way: dict[str, Any]) -> None:
    weight, second = _layer()
    like, _, left = _chosen(way)
    assert _error(left - weight, second) < 0.5 * _error(weight * like - weight, second)


@pytest.mark.parametrize("way", WAYS)
def test_exactly_as_many_stay_in_the_same_pattern(way: dict[str, Any]) -> None:
    like, kept, left = _chosen(way)
    assert kept.sum() == like.sum()
    assert np.array_equal(left != 0, kept)
    if way["granularity"] == "n:m":
        n, m = way["n"], way["m"]
        whole = INPUTS // m * m
        groups = kept[:, :whole].reshape(OUTPUTS, -1, m, KERNEL)
        assert (groups.sum(axis=2) == n).all()
        assert kept[:, whole:].all()
    if way["granularity"] == "block":
        blocks = kept[:, :39].reshape(OUTPUTS // 4, 4, 13, 3, KERNEL)
        assert (blocks.all(axis=(1, 3, 4)) | ~blocks.any(axis=(1, 3, 4))).all()


def test_the_same_weights_are_chosen_again() -> None:
    for first, second in zip(_chosen(WAYS[0]), _chosen(WAYS[0]), strict=True):
        assert np.array_equal(first, second)


def test_a_graph_gets_the_asked_share_of_zeros(trained: Trained) -> None:
    outcome = trained.prune(granularity="unstructured", sparsity=0.7, criterion="obc", labels=False)
    weights = [
        constant(v) for v in outcome.model.graph.initializers.values() if len(v.shape or ()) > 1
    ]
    zeros = sum((w == 0).sum() for w in weights) / sum(w.size for w in weights)
    assert abs(zeros - 0.7) < 0.01


@pytest.mark.parametrize("name", ["residual", "bert"])
def test_a_graph_gives_the_same_piece_by_piece(name: str) -> None:
    model = zoo.graph(name)
    feeds = {key: each.numpy() for key, each in zoo.feeds(name, 3).items()}
    samples = Samples(feeds, None, [0, 1, 2])
    names = [str(node.outputs[0].name) for node in model.graph][4::5]
    pieces = PiecewiseRun(model, names, samples, 1)
    single = PiecewiseRun(model, names[-1:], samples, 1)
    for each in names[:-1]:
        assert len(pieces.compute(each)) == 3
    for given, wanted in zip(pieces.compute(names[-1]), single.compute(names[-1]), strict=True):
        assert np.array_equal(given, wanted)


def test_a_layer_changed_before_its_turn_is_run_as_it_is_then(trained: Trained) -> None:
    model = load(trained.path)
    first, second = [node for node in model.graph if node.op_type == "Conv"][:2]
    names = [str(node.outputs[0].name) for node in (first, second)]
    pieces = PiecewiseRun(model, names, trained.train.take([0]), 1)
    assert pieces.compute(names[0])[0].any()
    for value in second.inputs[1:]:
        assert value is not None
        value.const_value = ir.Tensor(np.zeros_like(constant(value)), name=value.name)
    assert not pieces.compute(names[1])[0].any()
