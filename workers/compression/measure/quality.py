"""Metrics against targets, summed up sample by sample so that no output is kept.

``top1``, ``top5``, ``f1`` read class scores ``[1, C]`` against a class, or ``[1, C, …]`` and
``[1, …, C]`` against a class for each position; integer outputs are classes already. ``mse`` and
``mae`` read an output with as many elements as the targets. A position is one count; ``f1`` is the
unweighted mean over the classes that occur in targets or answers (macro).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.problems import DatasetMismatch
from app.domain.reports import Metric

Sums = NDArray[np.float64]
_MAX_CLASSES = 1_000_000


@dataclass(frozen=True)
class Rule:
    """A metric: statistics of one sample, which add up, and the value of their sum."""

    statistics: Callable[[NDArray[Any], NDArray[Any]], Sums]
    value: Callable[[Sums], float]
    classes: bool
    """Whether its targets are classes."""


def infer(targets: NDArray[Any] | None, asked: Metric | None) -> Metric | None:
    """Return the metric that is asked for, or that the targets suggest; None without targets.

    Raises:
        DatasetMismatch: the metric needs other targets.
    """
    if targets is None:
        if asked is not None:
            raise DatasetMismatch(
                f"The metric '{asked}' needs targets: add an array 'targets' to the dataset, or"
                " leave the metric out to compare with the original model's outputs."
            )
        return None
    whole = targets.dtype.kind in "iub"
    metric: Metric = asked or ("top1" if whole else "mse")
    if RULES[metric].classes and not whole:
        raise DatasetMismatch(
            f"The metric '{metric}' needs integer classes as targets; these are {targets.dtype}."
            " Use 'mse' or 'mae', or store the targets as integers."
        )
    return metric


class Score:
    """The running value of one metric."""

    def __init__(self, metric: Metric, output: str) -> None:
        self._rule, self._output = RULES[metric], output
        self._sums: Sums = np.zeros(1)
        self.samples = 0

    def add(self, output: NDArray[Any], target: NDArray[Any]) -> None:
        """Count one sample.

        Raises:
            DatasetMismatch: output and target do not fit each other.
        """
        try:
            sums = self._rule.statistics(output, target)
        except ValueError as error:
            raise DatasetMismatch(
                f"Output '{self._output}' {list(output.shape)} does not fit the targets"
                f" {list(target.shape)} of a sample: {error}. Name another output in"
                " 'evaluate.output', or another metric."
            ) from None
        size = max(len(sums), len(self._sums))
        grown = np.zeros((size, *sums.shape[1:]))
        if self.samples:
            grown[: len(self._sums)] += self._sums
        grown[: len(sums)] += sums
        self._sums = grown
        self.samples += 1

    @property
    def value(self) -> float:
        """The metric over all samples so far."""
        return self._rule.value(self._sums)


def top(output: NDArray[Any], target: NDArray[Any], *, count: int) -> Sums:
    """Return how many targets are among the ``count`` highest scores, and how many there are."""
    scores, classes = _aligned(output, target)
    if scores.ndim == classes.ndim:
        return np.array([np.sum(scores == classes), classes.size], np.float64)
    if classes.min() < 0 or classes.max() >= scores.shape[-1]:
        raise ValueError(f"a target lies outside of its {scores.shape[-1]} classes")
    own = np.take_along_axis(scores, classes[:, None], axis=1)
    better = np.sum(scores > own, axis=1)
    earlier = np.arange(scores.shape[1]) < classes[:, None]
    ties = np.sum((scores == own) & earlier, axis=1)
    hits = (better + ties < count) & ~np.isnan(own[:, 0])
    return np.array([np.sum(hits), classes.size], np.float64)


def confusion(output: NDArray[Any], target: NDArray[Any]) -> Sums:
    """Return hits, answers and targets of each class, ``[classes, 3]``."""
    scores, classes = _aligned(output, target)
    answers = scores if scores.ndim == classes.ndim else np.argmax(scores, axis=1)
    answers = answers.astype(np.int64)
    size = int(max(answers.max(), classes.max())) + 1
    if min(answers.min(), classes.min()) < 0 or size > _MAX_CLASSES:
        raise ValueError("classes are negative or too many")
    hits = np.bincount(classes[answers == classes], minlength=size)
    counts = [np.bincount(each, minlength=size) for each in (answers, classes)]
    return np.stack([hits, *counts], axis=1).astype(np.float64)


def macro_f1(sums: Sums) -> float:
    """Return the mean over classes of 2·hits / (answers + targets)."""
    hits, answers, targets = sums.T
    total = answers + targets
    return float(np.mean(2 * hits[total > 0] / total[total > 0]))


def error(output: NDArray[Any], target: NDArray[Any], *, power: int) -> Sums:
    """Return the summed absolute error to a power, and the number of elements."""
    if output.size != target.size or output.dtype.kind not in "fiub":
        raise ValueError(f"{output.size} numbers against {target.size}")
    difference = output.reshape(-1).astype(np.float64) - target.reshape(-1)
    return np.array([np.sum(np.abs(difference) ** power), target.size], np.float64)


def mean(sums: Sums) -> float:
    """Return the sum over the count."""
    return float(sums[0] / sums[1])


def _aligned(output: NDArray[Any], target: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return scores ``[positions, C]``, or answers ``[positions]``, and classes ``[positions]``."""
    classes = target.reshape(-1).astype(np.int64)
    shape = output.shape[1:] if output.ndim and output.shape[0] == 1 else output.shape
    values = output.reshape(shape)
    if values.dtype.kind in "iub" and values.size == classes.size:
        return values.reshape(-1), classes
    if values.dtype.kind != "f" or values.ndim == 0:
        raise ValueError("it holds neither class scores nor classes")
    for axis in (0, values.ndim - 1):
        if values.size == classes.size * shape[axis] and shape[axis] > 1:
            return np.moveaxis(values, axis, -1).reshape(classes.size, shape[axis]), classes
    raise ValueError("it has no axis of two or more classes")


RULES: dict[Metric, Rule] = {
    "top1": Rule(lambda o, t: top(o, t, count=1), mean, classes=True),
    "top5": Rule(lambda o, t: top(o, t, count=5), mean, classes=True),
    "f1": Rule(confusion, macro_f1, classes=True),
    "mse": Rule(lambda o, t: error(o, t, power=2), mean, classes=False),
    "mae": Rule(lambda o, t: error(o, t, power=1), mean, classes=False),
}
