"""k-means of numbers on a line: arrays in, arrays out."""

from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 100
_TOLERANCE = 1e-6


def codebook(
    values: NDArray[np.floating[Any]], clusters: int, *, zero: bool
) -> NDArray[np.float32]:
    """Return the centres that values are nearest to, sorted; fewer where values are few.

    Lloyd's algorithm, from clusters of about the same error, which are best where there are many
    (Gersho 1979). On a line a cluster is a stretch of the sorted values, so that a round costs no
    more than finding its ends.

    Args:
        values: of any shape, finite.
        clusters: at most.
        zero: one centre is and stays exactly zero.
    """
    ordered = np.sort(values.reshape(-1).astype(np.float64))
    distinct = np.unique(ordered)
    if len(distinct) <= clusters:
        return distinct.astype(np.float32)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centres = _start(ordered, clusters)
    for _ in range(_ROUNDS):
        if zero:
            centres[np.argmin(np.abs(centres))] = 0.0
        ends = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        edges = np.concatenate([[0], ends, [len(ordered)]])
        counts = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(counts, 1)
        moved = np.sort(np.where(counts > 0, means, centres))
        if np.abs(moved - centres).max() <= _TOLERANCE * (ordered[-1] - ordered[0]):
            centres = moved
            break
        centres = moved
    if zero:
        centres[np.argmin(np.abs(centres))] = 0.0
    return np.unique(centres.astype(np.float32))


def _start(ordered: NDArray[np.float64], clusters: int) -> NDArray[np.float64]:
    """Cut the stretch of the greatest squared error at its mean, until there are enough.

    The few values far out get centres of their own: Lloyd's algorithm would not bring any there.
    """
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    squares = np.concatenate([[0.0], np.cumsum(ordered**2)])
    stretches: list[tuple[float, float, int, int]] = []

    def mean(first: int, end: int) -> float:
        return float(sums[end] - sums[first]) / (end - first)

    def add(first: int, end: int) -> None:
        spread = float(ordered[end - 1] - ordered[first])  # decides where errors are rounded off
        error = float(squares[end] - squares[first]) - (end - first) * mean(first, end) ** 2
        heappush(stretches, (-error if spread else 0.0, -spread, first, end))

    add(0, len(ordered))
    while len(stretches) < clusters:
        _, _, first, end = heappop(stretches)
        middle = int(np.searchsorted(ordered, mean(first, end)))
        middle = min(max(middle, first + 1), end - 1)
        add(first, middle)
        add(middle, end)
    return np.sort([mean(first, end) for _, _, first, end in stretches])


def nearest(values: NDArray[np.floating[Any]], centres: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the index of the centre that each value is nearest to, in the values' shape."""
    middles = (centres[1:] + centres[:-1]) / 2
    return np.searchsorted(middles, values).astype(np.uint8)
