"""Metrics of classes: ``top1``, ``top5``, ``f1``.

Scores ``[1, C]`` predict one class; ``[1, C, …]`` and ``[1, …, C]`` predict a class for each
position, and each position counts. Integer outputs are predicted classes already. With a threshold,
one score for each target is the answer to yes (1) or no (0). Targets of -100 do not count.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.compression.measure.metrics.meter import MAX_CLASSES, Sums, Unfit

IGNORED = -100
"""The target of a position that does not count, such as a padded token: torch's
``ignore_index``."""


def top(
    output: NDArray[Any], target: NDArray[Any], *, count: int, threshold: float | None = None
) -> Sums:
    """Return the number of targets among the ``count`` highest scores, and of all targets."""
    scores, classes = _counted(_answers(output, target, threshold), target)
    if scores.ndim == classes.ndim:
        return np.array([np.sum(scores == classes), classes.size], np.float64)
    if classes.max(initial=0) >= scores.shape[-1]:
        raise Unfit(f"a target lies outside of its {scores.shape[-1]} classes")
    target_scores = np.take_along_axis(scores, classes[:, None], axis=1)
    better = np.sum(scores > target_scores, axis=1)
    earlier = np.arange(scores.shape[1]) < classes[:, None]
    ties = np.sum((scores == target_scores) & earlier, axis=1)
    hits = (better + ties < count) & ~np.isnan(target_scores[:, 0])
    return np.array([np.sum(hits), classes.size], np.float64)


def confusion(
    output: NDArray[Any], target: NDArray[Any], *, threshold: float | None = None
) -> Sums:
    """Return hits, predictions and targets of each class, ``[classes, 3]``."""
    scores, classes = _counted(_answers(output, target, threshold), target)
    predictions = scores if scores.ndim == classes.ndim else np.argmax(scores, axis=1)
    return counts(predictions.astype(np.int64), classes)


def counts(predictions: NDArray[np.int64], classes: NDArray[np.int64]) -> Sums:
    """Return hits, predictions and targets of each class from classes ``[positions]``."""
    if not classes.size:
        return np.zeros((0, 3))
    size = int(max(predictions.max(), classes.max())) + 1
    if min(predictions.min(), classes.min()) < 0 or size > MAX_CLASSES:
        raise Unfit("classes are negative or too many")
    hits = np.bincount(classes[predictions == classes], minlength=size)
    totals = [np.bincount(values, minlength=size) for values in (predictions, classes)]
    return np.stack([hits, *totals], axis=1).astype(np.float64)


def macro_f1(sums: Sums) -> float:
    """Return the mean of 2·hits / (predictions + targets) over the classes that occur, if any."""
    hits, predictions, targets = sums.T
    total = predictions + targets
    occurs = total > 0
    return float(np.mean(2 * hits[occurs] / total[occurs])) if occurs.any() else 0.0


def _counted(output: NDArray[Any], target: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return scores or predictions, and targets, without the positions that do not count.

    Raises:
        Unfit: another target stands for no class.
    """
    scores, classes = aligned(output, target)
    kept = classes != IGNORED
    scores, classes = scores[kept], classes[kept]
    if (lowest := classes.min(initial=0)) < 0:
        raise Unfit(
            f"a target is {lowest}, and classes count from 0 ({IGNORED} is left out, and the metric"
            " 'iou' leaves out targets below 0)"
        )
    return scores, classes


def _answers(output: NDArray[Any], target: NDArray[Any], threshold: float | None) -> NDArray[Any]:
    """Return 1 for scores above a threshold, and 0; other outputs as they are."""
    single = threshold is not None and output.size == target.size and output.dtype.kind == "f"
    return (output > threshold).astype(np.int64) if single else output


def aligned(output: NDArray[Any], target: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return scores ``[positions, C]`` or predictions, and targets, both ``[positions]``."""
    classes = target.reshape(-1).astype(np.int64)
    shape = output.shape[1:] if output.ndim and output.shape[0] == 1 else output.shape
    values = output.reshape(shape)
    if values.dtype.kind in "iub" and values.size == classes.size:
        return values.reshape(-1), classes
    if values.dtype.kind != "f" or values.ndim == 0:
        raise Unfit("it holds neither class scores nor classes")
    for axis in (0, values.ndim - 1):
        if values.size == classes.size * shape[axis] and shape[axis] > 1:
            return np.moveaxis(values, axis, -1).reshape(classes.size, shape[axis]), classes
    raise Unfit("it has no axis of two or more classes")
