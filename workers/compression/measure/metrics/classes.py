"""Metrics of classes: ``top1``, ``top5``, ``f1``.

Scores ``[1, C]`` answer one class; ``[1, C, …]`` and ``[1, …, C]`` answer a class for each
position, which counts as one answer. Integer outputs are classes already.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.compression.measure.metrics.meter import MAX_CLASSES, Sums, Unfit


def top(output: NDArray[Any], target: NDArray[Any], *, count: int) -> Sums:
    """Return how many targets are among the ``count`` highest scores, and how many there are."""
    scores, classes = aligned(output, target)
    if scores.ndim == classes.ndim:
        return np.array([np.sum(scores == classes), classes.size], np.float64)
    if classes.min() < 0 or classes.max() >= scores.shape[-1]:
        raise Unfit(f"a target lies outside of its {scores.shape[-1]} classes")
    right = np.take_along_axis(scores, classes[:, None], axis=1)
    better = np.sum(scores > right, axis=1)
    earlier = np.arange(scores.shape[1]) < classes[:, None]
    ties = np.sum((scores == right) & earlier, axis=1)
    hits = (better + ties < count) & ~np.isnan(right[:, 0])
    return np.array([np.sum(hits), classes.size], np.float64)


def confusion(output: NDArray[Any], target: NDArray[Any]) -> Sums:
    """Return hits, answers and targets of each class, ``[classes, 3]``."""
    scores, classes = aligned(output, target)
    answers = scores if scores.ndim == classes.ndim else np.argmax(scores, axis=1)
    return counts(answers.astype(np.int64), classes)


def counts(answers: NDArray[np.int64], classes: NDArray[np.int64]) -> Sums:
    """Return the same from answers and targets ``[positions]``."""
    if not classes.size:
        return np.zeros((0, 3))
    size = int(max(answers.max(), classes.max())) + 1
    if min(answers.min(), classes.min()) < 0 or size > MAX_CLASSES:
        raise Unfit("classes are negative or too many")
    hits = np.bincount(classes[answers == classes], minlength=size)
    said = [np.bincount(values, minlength=size) for values in (answers, classes)]
    return np.stack([hits, *said], axis=1).astype(np.float64)


def macro_f1(sums: Sums) -> float:
    """Return the mean of 2·hits / (answers + targets) over the classes that occur."""
    hits, answers, targets = sums.T
    total = answers + targets
    return float(np.mean(2 * hits[total > 0] / total[total > 0]))


def aligned(output: NDArray[Any], target: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return scores ``[positions, C]``, or answers ``[positions]``, and classes ``[positions]``."""
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
