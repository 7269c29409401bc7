"""The ratio of two durations, from paired measurements, with a confidence interval."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = Fraction(99, 100)
"""The confidence of intervals. Rounds on a busy machine are not independent, hence more than
0.95."""

FEWEST = 8
"""Pairs that an interval of this confidence needs: 2 · 0.5⁸ < 0.01."""

CLOSE = 0.03
"""An interval is narrow if it lies within this share of the ratio."""


@dataclass(frozen=True)
class Ratio:
    """How many times longer the first one takes than the second one."""

    value: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the interval is narrow enough to report the ratio."""
        return self.low >= self.value * (1 - CLOSE) and self.high <= self.value * (1 + CLOSE)


def paired(first: ArrayLike, second: ArrayLike) -> Ratio:
    """Return the median ratio of paired times, with the interval that the sign test gives.

    The interval lies between two of the sorted ratios. It holds for pairs of any distribution, so
    times that are skewed, as those of a busy machine are, do no harm.

    Source: Thompson, "On confidence ranges for the median", 1936; Conover, "Practical
    Nonparametric Statistics", 1999, section 3.2.

    Args:
        first: positive durations, in any unit.
        second: as many durations, each measured next to the one of ``first``.

    Returns:
        The ratio. With fewer than ``FEWEST`` pairs the interval is 0 to infinity.
    """
    ratios = np.sort(np.log(np.asarray(first, float) / np.asarray(second, float)))
    value = float(np.exp(np.median(ratios)))
    if len(ratios) < FEWEST:
        return Ratio(value, 0.0, math.inf)
    outside = _outside(len(ratios))
    return Ratio(value, *(float(np.exp(ratios[i])) for i in (outside, -1 - outside)))


def _outside(count: int) -> int:
    """Return how many of the sorted ratios lie outside of the interval, on either side."""
    bound = int((1 - CONFIDENCE) / 2 * 2**count)  # as whole numbers: 2**count is no float
    tail = term = 1
    for below in range(count):
        if tail > bound:
            return below - 1
        term = term * (count - below) // (below + 1)
        tail += term
    return count
