"""What a step may know besides its graph and its parameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Feeds = dict[str, NDArray[Any]]
"""An array for each of the graph's inputs, by name."""


@dataclass(frozen=True)
class Samples:
    """Rows of arrays that feed a graph; the arrays may lie on disk."""

    arrays: Mapping[str, NDArray[Any]]
    """For each input ``[samples, …]``."""
    targets: NDArray[Any] | None
    """``[samples, …]``: classes as integers, or numbers."""
    indices: Sequence[int]
    """The rows that these samples are, in order."""
    whole: bool = False
    """Whether a row is all that one run reads, a dimension for the batch included."""

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, indices: Sequence[int]) -> "Samples":
        """Return the samples of other rows."""
        return replace(self, indices=indices)

    def batches(self, size: int) -> Iterator[tuple[Feeds, list[int]]]:
        """Yield feeds of exactly ``size`` samples with the rows that count.

        The last batch is filled up with its last sample where the samples do not divide.
        """
        for start in range(0, len(self.indices), size):
            rows = list(self.indices[start : start + size])
            if self.whole:
                yield {name: array[rows[0]] for name, array in self.arrays.items()}, rows
                continue
            filled = rows + rows[-1:] * (size - len(rows))
            yield {name: np.ascontiguousarray(a[filled]) for name, a in self.arrays.items()}, rows


@dataclass(frozen=True)
class Context:
    """Everything random takes ``seed``; everything that computes takes ``threads``."""

    train: Samples | None
    """What may be looked at; None without a dataset."""
    seed: int
    threads: int
