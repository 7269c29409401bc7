"""One-dimensional k-means: arrays in, arrays out."""

from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 100
_TOLERANCE = 1e-6


def codebook(
    values: NDArray[np.floating[Any]], clusters: int, *, zero: bool
) -> NDArray[np.float32]:
    """Return the sorted centres of the clusters of values.

    Lloyd's algorithm, started from clusters of about equal error, which is optimal for many
    clusters (Gersho 1979). In one dimension a cluster is a segment of the sorted values, so that an
    iteration only has to find the ends of the segments.

    Args:
        values: finite values of any shape.
        clusters: the greatest number of centres; fewer distinct values give fewer centres.
        zero: whether one centre is exactly zero.
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
        new_centres = np.sort(np.where(counts > 0, means, centres))
        if np.abs(new_centres - centres).max() <= _TOLERANCE * (ordered[-1] - ordered[0]):
            centres = new_centres
            break
        centres = new_centres
    if zero:
        centres[np.argmin(np.abs(centres))] = 0.0
    return np.unique(centres.astype(np.float32))


def _start(ordered: NDArray[np.float64], clusters: int) -> NDArray[np.float64]:
    """Return initial centres: repeatedly split the segment with the greatest squared error.

    A segment is split at its mean. Outliers thus get centres, which Lloyd's algorithm alone would
    not give them.
    """
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    squares = np.concatenate([[0.0], np.cumsum(ordered**2)])
    segments: list[tuple[float, float, int, int]] = []

    def mean(first: int, end: int) -> float:
        return float(sums[end] - sums[first]) / (end - first)

    def add(first: int, end: int) -> None:
        spread = float(ordered[end - 1] - ordered[first])  # decides where errors are rounded off
        error = float(squares[end] - squares[first]) - (end - first) * mean(first, end) ** 2
        heappush(segments, (-error if spread else 0.0, -spread, first, end))

    add(0, len(ordered))
    while len(segments) < clusters:
        _, _, first, end = heappop(segments)
        middle = int(np.searchsorted(ordered, mean(first, end)))
        middle = min(max(middle, first + 1), end - 1)
        add(first, middle)
        add(middle, end)
    return np.sort([mean(first, end) for _, _, first, end in segments])


def nearest(values: NDArray[np.floating[Any]], centres: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the index of the nearest centre for each value; the values' shape."""
    middles = (centres[1:] + centres[:-1]) / 2
    return np.searchsorted(middles, values).astype(np.uint8)
