"""A drop in quality comes with its standard error, and what is chosen keeps the bound elsewhere."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from app.domain.jobs import Evaluate
from tests.workers.intake.models import model, tensor, value
from workers.compression.graph.load import load
from workers.compression.measure import quality
from workers.compression.measure.reference import Drop, Reference, with_error
from workers.compression.methods.quantize.judging import Judging
from workers.compression.samples.context import Context, Samples

RNG = np.random.default_rng(0)


def scaled(path: Path, *, bias: float, classes: bool, label: bool = False) -> Path:
    """Store ``y = x + bias``, where the first number counts: as class scores or as they are.

    With a label, the output is the class instead of its scores.
    """
    names = ("N", 2) if classes else ("N", 2, 1)
    nodes = [helper.make_node("Add", ["x", "b"], ["scores" if label else "y"])]
    shift = np.array([bias, 0], np.float32).reshape(2 if classes else (2, 1))
    inputs, outputs = [value("x", *names)], [value("y", *names)]
    if label:
        nodes.append(helper.make_node("ArgMax", ["scores"], ["y"], axis=1, keepdims=0))
        outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.INT64, ["N"])]
    onnx.save(model(nodes, inputs, outputs, [tensor("b", shift)]), path)
    return path


@pytest.mark.parametrize("count", [16, 160])
def test_the_error_of_a_mean_is_the_standard_error(count: int) -> None:
    values = RNG.standard_normal(count)
    groups = [values[start::16].tolist() for start in range(16)]
    found = with_error(groups, lambda parts: float(np.mean([x for part in parts for x in part])))
    means = np.array([np.mean(group) for group in groups])
    assert found.value == pytest.approx(values.mean())
    assert found.error == pytest.approx(means.std(ddof=1) / 4)
    assert with_error([[3.0]], lambda parts: parts[0][0]) == Drop(3.0, 0.0)


@pytest.mark.parametrize("classes", [True, False], ids=["answers", "numbers"])
def test_other_samples_rarely_exceed_the_value_and_its_error(tmp_path: Path, classes: bool) -> None:
    """Of 30 draws of 48 samples, few expect less than what all samples together lose."""
    shape = (1600, 2) if classes else (1600, 2, 1)
    x = RNG.standard_normal(shape).astype(np.float32)
    samples = Samples({"x": x}, None, range(len(x)))
    original = scaled(tmp_path / "one.onnx", bias=0, classes=classes)
    other = scaled(tmp_path / "two.onnx", bias=0.2, classes=classes)
    truth = Reference(original, samples, threads=1).drop(other).value
    drops = [
        Reference(original, samples.draw(48, seed), threads=1).drop(other) for seed in range(30)
    ]
    assert np.mean([drop.expected < truth for drop in drops]) < 0.3
    assert all((drop.error > 0) == (drop.value > 0) for drop in drops)


def test_labels_drop_as_the_scores_that_they_are_taken_from(tmp_path: Path) -> None:
    samples = Samples({"x": RNG.standard_normal((64, 2)).astype(np.float32)}, None, range(64))
    drops = list[Drop]()
    for label in (False, True):
        original, other = (
            scaled(tmp_path / f"{label}{bias}.onnx", bias=bias, classes=True, label=label)
            for bias in (0, 0.5)
        )
        reference = Reference(original, samples, threads=1)
        drops.append(reference.drop(other))
    assert 0 < drops[0].value < 0.5
    assert drops[1] == drops[0]
    assert reference.explained(other) == pytest.approx(1 - drops[0].value)


def test_what_changes_nothing_has_no_error(tmp_path: Path) -> None:
    path = scaled(tmp_path / "one.onnx", bias=0, classes=False)
    x = RNG.standard_normal((40, 2, 1)).astype(np.float32)
    assert Reference(path, Samples({"x": x}, None, range(40)), 1).drop(path) == Drop(0.0, 0.0)


def test_a_graph_fits_where_its_error_is_within_the_limit_too(tmp_path: Path) -> None:
    original = scaled(tmp_path / "one.onnx", bias=0, classes=True)
    other = load(scaled(tmp_path / "two.onnx", bias=0.2, classes=True))
    samples = Samples({"x": RNG.standard_normal((64, 2)).astype(np.float32)}, None, range(64))
    context = Context(samples, seed=0, threads=1, original=original)
    drop = Judging(load(original), samples, context, limit=1.0).drop(other)
    halfway = drop.value + drop.error / 2
    assert not Judging(load(original), samples, context, limit=halfway).fits(other)
    assert Judging(load(original), samples, context, limit=drop.expected + 1e-9).fits(other)
    labelled = replace(samples, targets=np.zeros(64, np.int64))
    assert Judging(load(original), labelled, context, limit=1.0).drop(other).error == 0


@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "unlabelled"])
def test_without_time_graphs_are_compared_on_the_first_few_samples(
    tmp_path: Path, labelled: bool
) -> None:
    """Half of the answers change, but none of the first ones."""
    original = scaled(tmp_path / "one.onnx", bias=0, classes=True)
    other = scaled(tmp_path / "two.onnx", bias=5, classes=True)
    x = np.array([[10, 0], [-10, 0]] * 8 + [[-1, 0], [10, 0]] * 42, np.float32)
    targets = x.argmax(1) if labelled else None
    samples = Samples({"x": x}, targets, range(100))
    metric = quality.judge(load(original), targets, Evaluate(), None, 1)
    for end, lost in ((84 + 84, 0.42), (84, 0.0), (0, 0.0)):
        looks = iter([True] * end)
        compared = Reference(original, samples, 1, metric, has_time=partial(next, looks, False))
        assert compared.drop(other).value == pytest.approx(lost)
