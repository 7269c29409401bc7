"""The levels that the weights of a layer may be rounded to."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_ON = 1e-4
"""The distance, as a share of that between two levels, within which a weight is on one of them."""


@dataclass(frozen=True)
class Levels:
    """The values ``value · step``: a grid, or the values of a codebook."""

    step: Array
    """Positive; it broadcasts over the weights."""
    values: Array
    """Sorted, ``[levels]``: consecutive integers are a grid."""

    @classmethod
    def grid(cls, step: Array, least: int, most: int) -> "Levels":
        """Return the integer multiples of steps, from ``least`` to ``most``."""
        return cls(step, np.arange(least, most + 1, dtype=np.float32))

    @cached_property
    def _is_grid(self) -> bool:
        return bool((np.diff(self.values) == 1).all()) and float(self.values[0]).is_integer()

    def nearest(self, weights: Array) -> Array:
        """Return the levels nearest to weights."""
        ratio = weights / self.step
        if self._is_grid:
            on_grid: Array = np.clip(np.rint(ratio), self.values[0], self.values[-1]) * self.step
            return on_grid
        middles = (self.values[1:] + self.values[:-1]) / 2
        nearest: Array = self.values[np.searchsorted(middles, ratio)] * self.step
        return nearest

    def around(self, weights: Array) -> tuple[Array, Array]:
        """Return the levels below and above weights; for a weight on a level both are that."""
        ratio = weights / self.step
        last = len(self.values) - 1
        places = np.searchsorted(self.values, ratio)
        below, above = self.values[np.maximum(places - 1, 0)], self.values[np.minimum(places, last)]
        tolerance = _ON * (above - below)
        least = np.where(above - ratio <= tolerance, above, below) * self.step
        most = np.where(ratio - below <= tolerance, below, above) * self.step
        return least, most
