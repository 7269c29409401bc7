"""Every metric equals scikit-learn's; what cannot be compared is said by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from app.domain.problems import DatasetMismatch
from app.domain.reports import Metric
from workers.compression.measure import quality
from workers.compression.measure.quality import Score


def scored(metric: Metric, outputs: np.ndarray, targets: np.ndarray) -> float:
    score = Score(metric, "out")
    for output, target in zip(outputs, targets, strict=True):
        score.add(output[None], target)
    assert score.samples == len(targets)
    return score.value


@given(st.integers(0, 2**32 - 1), st.integers(6, 12), st.integers(1, 40))
def test_class_metrics_equal_scikit_learns(seed: int, classes: int, samples: int) -> None:
    generator = np.random.default_rng(seed)
    outputs = generator.standard_normal((samples, classes)).astype(np.float32)
    targets = generator.integers(0, classes, samples)
    answers = outputs.argmax(1)
    labels = list(range(classes))
    assert scored("top1", outputs, targets) == metrics.accuracy_score(targets, answers)
    top5 = metrics.top_k_accuracy_score(targets, outputs, k=5, labels=labels)
    assert scored("top5", outputs, targets) == pytest.approx(top5)
    f1 = metrics.f1_score(targets, answers, average="macro")
    assert scored("f1", outputs, targets) == pytest.approx(f1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_errors_equal_scikit_learns(seed: int, samples: int) -> None:
    generator = np.random.default_rng(seed)
    outputs, targets = generator.standard_normal((2, samples, 3)).astype(np.float32)
    squared = metrics.mean_squared_error(targets, outputs)
    absolute = metrics.mean_absolute_error(targets, outputs)
    assert scored("mse", outputs, targets) == pytest.approx(squared, rel=1e-5)
    assert scored("mae", outputs, targets) == pytest.approx(absolute, rel=1e-5)


@pytest.mark.parametrize("axis", [1, -1])
def test_scores_of_positions_are_read_along_either_axis(axis: int) -> None:
    generator = np.random.default_rng(0)
    scores = generator.standard_normal((5, 7, 11)).astype(np.float32)
    targets = scores.argmax(-1)
    outputs = np.moveaxis(scores, -1, axis)
    assert scored("top1", outputs, targets) == 1.0


def test_integer_outputs_are_classes_already() -> None:
    assert scored("top1", np.array([[3], [1]]), np.array([3, 2])) == 0.5
    assert scored("f1", np.array([[3], [3]]), np.array([3, 3])) == 1.0


def test_the_metric_follows_from_the_targets() -> None:
    assert quality.infer(np.array([1, 2]), None) == "top1"
    assert quality.infer(np.array([1.0]), None) == "mse"
    assert quality.infer(None, None) is None


def test_a_metric_without_its_targets_is_refused_with_what_to_do() -> None:
    with pytest.raises(DatasetMismatch, match="needs targets"):
        quality.infer(None, "top1")
    with pytest.raises(DatasetMismatch, match="integer classes"):
        quality.infer(np.array([1.0]), "f1")


@pytest.mark.parametrize(
    ("metric", "output", "target"),
    [
        ("top1", np.zeros((1, 3), np.float32), np.array(7)),
        ("top1", np.zeros((1, 1), np.float32), np.array(0)),
        ("top5", np.zeros((1, 4, 5), np.float32), np.array(1)),
        ("mse", np.zeros((1, 3), np.float32), np.array([1.0, 2.0])),
    ],
)
def test_an_output_that_does_not_fit_is_named(
    metric: Metric, output: np.ndarray, target: np.ndarray
) -> None:
    with pytest.raises(DatasetMismatch, match="Output 'logits'"):
        Score(metric, "logits").add(output, target)
