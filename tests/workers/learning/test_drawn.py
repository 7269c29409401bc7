"""What is learned from a few samples is learned from drawn ones: rows lie sorted by class."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workers.learning import nets
from workers.compression.executor import build
from workers.compression.graph.load import load
from workers.compression.learning import norms
from workers.compression.learning.feed import Feed, Outputs, feed_for
from workers.compression.learning.plan import Minutes
from workers.compression.learning.renormalise import Renormalised
from workers.compression.learning.teacher import answers, probe
from workers.compression.samples.context import Samples

ROWS, CLASSES = 4096, 4
TARGETS = np.repeat(np.arange(CLASSES, dtype=np.int64), ROWS // CLASSES)
X = nets.inputs(ROWS, 1, 6, 6) + 3 * TARGETS.astype(np.float32)[:, None, None, None]
"""Brighter with each class, so that the first rows stand for nothing."""

NORMALISED = """
<ir_version: 10, opset_import: ["": 21]>
student (float[BATCH, 1, 6, 6] x) => (float[BATCH, 4] y)
{
    c = Conv<pads=[1, 1, 1, 1]>(x, k, kb)
    n = BatchNormalization<epsilon=1e-05>(c, scale, shift, mean, var)
    r = Relu(n)
    p = GlobalAveragePool(r)
    f = Flatten(p)
    y = Gemm<transB=1>(f, w, b)
}
"""
SHAPES = nets.CNN_SHAPES | {"scale": (8,), "shift": (8,), "mean": (8,), "var": (8,)}


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    return nets.stored(nets.graph(nets.CNN, nets.CNN_SHAPES), tmp_path / "cnn.onnx")


def fed(path: Path) -> Feed:
    model = load(path)
    samples = Samples({"x": X}, TARGETS, range(ROWS))
    return replace(feed_for(build(model), samples, "cpu"), size=128)


def convolved(path: Path) -> torch.Tensor:
    """Return what the convolution gives for all rows, ``[channels, places]``."""
    with torch.no_grad():
        c = build(load(path), outputs=["c"])({"x": torch.from_numpy(X)})["c"]
    found: torch.Tensor = c.movedim(1, 0).flatten(1)
    return found


@pytest.mark.parametrize("count", [20, 64])
def test_drawn_samples_have_all_classes_in_any_run(count: int) -> None:
    samples = Samples({"x": X}, TARGETS, range(ROWS))
    drawn = samples.draw(count, seed=0)
    assert len(set(drawn.indices)) == count
    assert set(TARGETS[list(drawn.indices)[:16]]) == set(range(CLASSES))
    assert list(samples.draw(count, seed=0).indices) == list(drawn.indices)
    assert list(samples.draw(count, seed=1).indices) != list(drawn.indices)
    assert sorted(samples.draw(2 * ROWS, seed=0).indices) == list(range(ROWS))


def test_which_loss_fits_is_decided_on_drawn_answers(cnn: Path) -> None:
    outputs, targets = probe(build(load(cnn)), fed(cnn), seed=0)
    assert targets is not None
    assert len(outputs["y"]) == len(targets) == 64
    assert np.bincount(targets.numpy(), minlength=CLASSES).min() >= 8
    wanted = nets.answer(load(cnn), X)
    assert float(outputs["y"].std()) == pytest.approx(wanted.std(), rel=0.2)


def test_normalisation_is_put_back_from_drawn_statistics(cnn: Path) -> None:
    model = load(cnn)
    lent = Renormalised(model, fed(cnn), seed=0)
    deviation = convolved(cnn).std(1, correction=0).numpy()
    found = nets.weights(lent.model)["c_scale"]
    assert np.abs(found / deviation - 1).max() < 0.05


def test_a_student_is_folded_with_drawn_statistics(tmp_path: Path) -> None:
    """It answers on all rows as it did in training, on batches of all classes."""
    student = nets.graph(NORMALISED, SHAPES)
    path = nets.stored(student, tmp_path / "student.onnx")
    batched = norms.by_batch(student)
    mixed = np.random.default_rng(0).permutation(ROWS)[:1024]
    wanted = nets.answer(batched, X[mixed])
    norms.settle(student, batched, fed(path), seed=0)
    assert not any(node.op_type == "BatchNormalization" for node in student.graph)
    found = nets.answer(student, X[mixed])
    assert np.abs(found - wanted).mean() < 0.05 * wanted.std()


@pytest.mark.parametrize(("seconds", "asked"), [(0.001, 0), (10.0, 3)])
def test_what_a_teacher_answers_is_kept_where_there_is_time(
    cnn: Path, seconds: float, asked: int
) -> None:
    teacher, feed, calls = build(load(cnn)), fed(cnn), list[float]()

    def forward(feeds: Mapping[str, torch.Tensor]) -> Outputs:
        calls.append(seconds)
        return teacher(feeds)  # type: ignore[no-any-return]

    minutes = Minutes(1, lambda: sum(calls))
    ask = answers(forward, feed, minutes)
    before = len(calls)
    batches = [feed.batch(rows) for rows in ([5, 4000], [4095], [0, 1, 2])]
    outputs = [ask(batch)["y"].detach().numpy() for batch in batches]
    assert len(calls) - before == asked
    assert before * seconds < 0.4 * minutes.limit
    for batch, found in zip(batches, outputs, strict=True):
        assert np.allclose(found, nets.answer(load(cnn), X[batch.rows]), atol=1e-4)
