"""Weights that share a few values: the nearest ones, in a file that is really smaller."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from app.domain.steps import Cluster
from app.domain.steps.recover import Recover
from tests.workers import zoo
from workers.compression.graph import runtime, stats
from workers.compression.graph.editor import constant
from workers.compression.graph.load import load, save
from workers.compression.graph.shapes import sizes_of
from workers.compression.methods.cluster import cluster
from workers.compression.methods.cluster.kmeans import centres_of, nearest
from workers.compression.methods.outcome import Outcome
from workers.compression.samples.context import Context, Samples

NETWORKS = ("mlp", "residual", "inverted_residual", "dense_concat", "convnext", "vit", "bert")

Feeds = dict[str, NDArray[Any]]


def _feeds(name: str, batch: int) -> Feeds:
    return {key: tensor.numpy() for key, tensor in zoo.feeds(name, batch).items()}


def _run(model: ir.Model, feeds: Feeds, path: Path) -> NDArray[Any]:
    save(model, path)
    onnx.checker.check_model(str(path))
    return next(iter(runtime.run(runtime.open_session(path), feeds).values()))


def _cluster(name: str, parameters: Cluster, context: Context | None = None) -> Outcome:
    return cluster(zoo.graph(name), parameters, context or Context(None, 0, 1), lambda _: None)


def _error(values: NDArray[Any], centres: NDArray[Any]) -> float:
    return float(((values - centres[nearest(values, centres)]) ** 2).mean())


@pytest.mark.parametrize("clusters", [2, 7, 16, 256])
def test_centres_are_the_means_of_what_is_nearest_to_them(clusters: int) -> None:
    values = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    centres = centres_of(values, clusters, zero=False)
    indices = nearest(values, centres)
    means = [values[indices == index].mean() for index in range(len(centres))]
    assert len(centres) == clusters
    np.testing.assert_allclose(means, centres, atol=0.02)
    assert np.abs(values - centres[indices]).max() <= np.abs(values[:, None] - centres).max()


@pytest.mark.parametrize("count", [100_000, 3_000_000])
def test_sixteen_values_for_a_normal_distribution_are_as_good_as_they_can_be(count: int) -> None:
    """Max (1960), table I: the least mean squared error of 16 levels is 0.009497.

    Of millions of values neighbours count as one.
    """
    values = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    assert _error(values, centres_of(values, 16, zero=False)) < 1.02 * 0.009497


def test_of_millions_values_that_are_too_alike_to_tell_apart_share_a_centre() -> None:
    alike = 1 + np.arange(300, dtype=np.float32) * np.float32(2**-23)
    values = np.concatenate([np.zeros(1 << 22, np.float32), alike])
    centres = centres_of(values, 256, zero=False)
    assert len(np.unique(values)) > 256 > len(centres)
    assert _error(values, centres) < 1e-12


def test_the_few_values_far_out_of_a_layer_get_centres_of_their_own() -> None:
    """Student's distribution of three degrees: the error was 28 dB below the values, not 42."""
    values = np.random.default_rng(0).standard_t(3, 20_000).astype(np.float32)
    assert _error(values, centres_of(values, 256, zero=False)) < 1e-4 * float((values**2).mean())


def test_few_values_are_kept_as_they_are_and_a_zero_stays_zero() -> None:
    few = np.array([3.0, -1.0, 3.0, 0.5], np.float32)
    np.testing.assert_array_equal(centres_of(few, 16, zero=False), [-1.0, 0.5, 3.0])
    values = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    values[:2500] = 0
    centres = centres_of(values, 16, zero=True)
    assert (centres[nearest(values, centres)][:2500] == 0).all()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("clusters", [16, 256])
def test_the_graph_computes_with_the_shared_values(
    name: str, clusters: int, tmp_path: Path
) -> None:
    model, feeds = zoo.graph(name), _feeds(name, 2)
    wanted = _run(model, feeds, tmp_path / "before.onnx")
    outcome = _cluster(name, Cluster(clusters=clusters))
    given = _run(outcome.model, feeds, tmp_path / "after.onnx")
    error = ((wanted - given) ** 2).sum() / (wanted**2).sum()
    assert error < (0.3 if clusters == 16 else 0.005)
    sizes = sizes_of(model, {key: array[:1] for key, array in feeds.items()})
    before, after = stats.measure(model, sizes), stats.measure(outcome.model, sizes)
    assert (after.parameters, after.macs) == (before.parameters, before.macs)
    assert outcome.layers


def test_zeros_of_a_pruned_weight_stay_and_are_counted(tmp_path: Path) -> None:
    model = zoo.graph("mlp")
    for value in model.graph.initializers.values():
        array = constant(value)
        if array.ndim == 2:
            pruned = np.where(np.abs(array) < np.median(np.abs(array)), np.float32(0), array)
            value.const_value = ir.Tensor(pruned, name=value.name)
    before = stats.measure(model, {"batch": 1})
    path = tmp_path / "after.onnx"
    save(cluster(model, Cluster(), Context(None, 0, 1), lambda _: None).model, path)
    after = stats.measure(load(path), {"batch": 1})
    assert after.nonzero_parameters <= before.nonzero_parameters < before.parameters
    assert after.parameters == before.parameters


def test_training_moves_the_values_and_leaves_the_indices(tmp_path: Path) -> None:
    feeds = _feeds("residual", 96)
    samples = Samples(feeds, None, range(96))
    example = {key: array[:1] for key, array in feeds.items()}
    original = tmp_path / "original.onnx"
    wanted = _run(zoo.graph("residual"), feeds, original)
    context = Context(samples, seed=0, threads=1, example=example, original=original)
    errors, indices = [], []
    for wish in (None, Recover(epochs=6, batch_size=16, learning_rate=3e-3)):
        outcome = _cluster("residual", Cluster(clusters=4, recover=wish), context)
        given = _run(outcome.model, feeds, tmp_path / "after.onnx")
        errors.append(((wanted - given) ** 2).mean())
        initializers = outcome.model.graph.initializers
        stored = {k: v for k, v in initializers.items() if k.endswith("_indices")}
        indices.append({key: constant(value).tobytes() for key, value in stored.items()})
    assert errors[1] < 0.7 * errors[0]
    assert indices[0] == indices[1]
