"""Targets that do not fit a metric are refused with how to store them."""

from typing import Any

import numpy as np
import pytest

from app.domain.jobs import Evaluate
from app.domain.metrics import Metric
from app.domain.problems import DatasetMismatch
from workers.compression.measure.quality import Yardstick


def scored(metric: Metric, output: np.ndarray, target: Any) -> float:
    """Return the metric of one sample: ``[1, …]`` of the graph, and ``[…]`` of the dataset."""
    score = Yardstick(metric, "out", Evaluate(metric=metric)).score()
    score.add({"out": output}, np.array(target))
    return score.value


@pytest.mark.parametrize(
    ("metric", "targets", "words"),
    [
        (
            "top1",
            [0, -2],
            "a target is -2, .*-100 is left out, and.*'iou' leaves out targets below 0",
        ),
        ("f1", [0, -1], "a target is -1, .*'iou' leaves out"),
        ("mse", [2.0], "6 numbers against 1; if the targets are class numbers.*as integers"),
        ("iou", [2.0], "6 numbers against 1; .*as integers"),
        ("mse", [2.5], r"6 numbers against 1\. Name another output"),
    ],
)
def test_targets_that_do_not_fit_are_told_how_to_be_stored(
    metric: Metric, targets: Any, words: str
) -> None:
    with pytest.raises(DatasetMismatch, match=words):
        scored(metric, np.zeros((1, 2, 3), np.float32), targets)


@pytest.mark.parametrize("metric", ["top1", "top5", "f1", "iou"])
@pytest.mark.parametrize("labels", [False, True])
def test_ignored_tokens_are_left_out(metric: Metric, *, labels: bool) -> None:
    """A fourth token has no class, and neither the scores nor the label of it counts."""
    scores = np.eye(3, dtype=np.float32)[None, [0, 1, 2, 2]]
    output = scores.argmax(-1) if labels else scores
    assert scored(metric, output, [0, 1, 2, -100]) == 1.0
    assert scored(metric, output, [0, 1, 1, -100]) == (
        1.0
        if metric == "top5" and not labels
        else pytest.approx(scored(metric, output[:, :3], [0, 1, 1]))
    )


@pytest.mark.parametrize("metric", ["top1", "f1"])
def test_a_sample_without_a_token_that_counts_changes_no_figure(metric: Metric) -> None:
    score = Yardstick(metric, "out", Evaluate(metric=metric)).score()
    scores = np.eye(3, dtype=np.float32)[None]
    score.add({"out": scores}, np.full(3, -100))
    assert score.value == 0
    score.add({"out": scores}, np.array([0, 1, 2]))
    assert score.value == 1
