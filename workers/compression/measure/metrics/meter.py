"""The interface of a metric while samples are added."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Sums = NDArray[np.float64]

MAX_CLASSES = 1_000_000


class Unfit(Exception):  # noqa: N818 (it says what it is)
    """A metric cannot compare an output with a target; the text of the error says why."""


def other_size(output: NDArray[Any], target: NDArray[Any]) -> Unfit:
    """Return the error for an output that has not one number for each target."""
    words = f"{output.size} numbers against {target.size}"
    if target.dtype.kind == "f" and np.array_equal(target, np.rint(target)):
        words += "; if the targets are class numbers, store them as integers"
    return Unfit(words)


class Meter(Protocol):
    """The running value of a metric."""

    def add(self, output: NDArray[Any], target: NDArray[Any]) -> None:
        """Add one sample: ``[1, …]`` of the graph, and ``[…]`` of the dataset.

        Raises:
            Unfit: they do not fit each other.
        """

    @property
    def value(self) -> float:
        """The metric over all samples so far."""


class Summed:
    """A metric that is a function of sums.

    Args:
        statistics: computes the terms of one sample, ``[k]`` or ``[classes, k]``. Terms are
            summed; a sample with more classes has more rows.
        value: computes the metric from the sums.
    """

    def __init__(
        self,
        statistics: Callable[[NDArray[Any], NDArray[Any]], Sums],
        value: Callable[[Sums], float],
    ) -> None:
        self._statistics, self._value = statistics, value
        self._sums: Sums | None = None
        self.terms = list[Sums]()
        """Of each sample, where it has one row of terms."""

    def add(self, output: NDArray[Any], target: NDArray[Any]) -> None:
        """Add one sample."""
        sums = self._statistics(output, target)
        if sums.ndim == 1:
            self.terms.append(sums)
        if self._sums is not None:
            longer, shorter = sorted((self._sums, sums), key=len, reverse=True)
            sums = longer.copy()
            sums[: len(shorter)] += shorter
        self._sums = sums

    @property
    def value(self) -> float:
        """The metric over all samples so far."""
        return self._value(np.zeros(2) if self._sums is None else self._sums)


def mean(sums: Sums) -> float:
    """Return the sum divided by the count; 0 where the count is 0."""
    return float(sums[0] / sums[1]) if sums[1] else 0.0
