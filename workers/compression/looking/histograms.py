"""Histograms of a tensor's values: counts in equal bins between exact extremes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 4096


@dataclass(frozen=True)
class Histogram:
    """A histogram of finite values: exact extremes, counts in equal bins between them."""

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def finite(self) -> bool:
        """Whether the tensor held any finite value."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    @property
    def width(self) -> float:
        """The width of one bin."""
        return (self.high - self.low) / max(len(self.counts), 1)

    @property
    def centers(self) -> NDArray[np.floating[Any]]:
        """The middle of each bin."""
        return self.low + (np.arange(len(self.counts)) + 0.5) * self.width


def count(values: NDArray[Any], low: float, high: float, most: int) -> NDArray[np.int64]:
    """Count finite values in ``BINS`` equal bins between their extremes.

    Args:
        values: an array of any shape.
        low: the least value.
        high: the greatest value.
        most: the number of elements to use, about: every n-th one, with n odd.
    """
    flat = values.reshape(-1)
    if flat.size > most:
        flat = flat[:: (flat.size // most) | 1]
    flat = flat[np.isfinite(flat)]
    if not np.isfinite(low) or not np.isfinite(high):
        return np.zeros(BINS, np.int64)
    width = max(high - low, float(np.finfo(np.float32).tiny))
    bins = (flat.astype(np.float64) - low) * (BINS / width)
    return np.bincount(np.clip(bins, 0, BINS - 1).astype(np.int64), minlength=BINS)
