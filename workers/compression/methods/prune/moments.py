"""Sums of a layer's inputs and target outputs, and of their products, over many positions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

POSITIONS = 8192
"""The number of positions, over all samples, that the sums of a layer are taken over."""

Rows = NDArray[np.float64]


@dataclass
class LayerMoments:
    """Sums over positions of inputs ``x`` and target outputs ``y``.

    Both are taken relative to ``origin``, the mean of the first rows: a large common offset would
    cost numerical precision.
    """

    count: int
    origin: tuple[Rows, Rows]
    x: Rows
    """``Σ x`` ``[inputs]``."""
    y: Rows
    """``Σ y`` ``[outputs]``."""
    xx: Rows
    """``Σ x·xᵀ`` ``[inputs, inputs]``."""
    xy: Rows
    """``Σ x·yᵀ`` ``[inputs, outputs]``."""

    @classmethod
    def of(cls, rows: NDArray[Any], outputs: NDArray[Any]) -> "LayerMoments":
        """Return the sums of some rows ``[positions, inputs]`` and ``[positions, outputs]``."""
        input_count, output_count = rows.shape[1], outputs.shape[1]
        sums = (
            np.zeros(n)
            for n in (
                input_count,
                output_count,
                (input_count, input_count),
                (input_count, output_count),
            )
        )
        origin = (rows.mean(axis=0, dtype=np.float64), outputs.mean(axis=0, dtype=np.float64))
        moments = cls(0, origin, *sums)
        moments.add(rows, outputs)
        return moments

    def add(self, rows: NDArray[Any], outputs: NDArray[Any]) -> None:
        """Add more rows."""
        x = (rows - self.origin[0]).astype(np.float32)
        y = (outputs - self.origin[1]).astype(np.float32)
        self.count += len(x)
        self.x += x.sum(axis=0)
        self.y += y.sum(axis=0)
        self.xx += x.T @ x
        self.xy += x.T @ y

    def finite(self) -> bool:
        """Return whether all rows that were added are finite."""
        return bool(np.isfinite(self.xx).all() and np.isfinite(self.xy).all())

    def means(self) -> tuple[Rows, Rows]:
        """Return the mean input ``[inputs]`` and output ``[outputs]``."""
        return self.origin[0] + self.x / self.count, self.origin[1] + self.y / self.count

    def centred_at(self, x: Rows, y: Rows) -> tuple[Rows, Rows]:
        """Return ``Σ (x-a)·(x-a)ᵀ`` and ``Σ (x-a)·(y-b)ᵀ`` for a point ``a``, ``b``."""
        a, b = x - self.origin[0], y - self.origin[1]
        xx = self.xx - np.outer(self.x, a) - np.outer(a, self.x) + self.count * np.outer(a, a)
        xy = self.xy - np.outer(self.x, b) - np.outer(a, self.y) + self.count * np.outer(a, b)
        return xx, xy
