"""One-dimensional k-means: arrays in, arrays out."""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 100
"""Rounds after which centres that still move are good enough."""
_TOLERANCE = 1e-6
"""The way of a centre in one round, as a share of the range of values, that is none."""

_EXACT = 1 << 20
"""The greatest number of values that are taken one by one; of more, neighbours count as one."""
_CHUNK = 1 << 22
"""The number of values that are looked at together."""
_LOW_BITS = 12
"""The bits of a float's 23 in which values that count as one may differ: a part in 2,000."""


def centres_of(
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
    ordered = np.sort(values.reshape(-1).astype(np.float32, copy=False))
    distinct = _few_distinct(ordered, clusters)
    if distinct is not None:
        return distinct
    line = _line_of(ordered)
    centres = _start(line, clusters)
    for _ in range(_ROUNDS):
        if zero:
            centres[np.argmin(np.abs(centres))] = 0.0
        ends = np.searchsorted(line.values, (centres[1:] + centres[:-1]) / 2)
        edges = np.concatenate([[0], ends, [len(line.values)]])
        counts = np.diff(line.counts[edges])
        means = np.diff(line.sums[edges]) / np.maximum(counts, 1)
        new_centres = np.sort(np.where(counts > 0, means, centres))
        if np.abs(new_centres - centres).max() <= _TOLERANCE * (line.values[-1] - line.values[0]):
            centres = new_centres
            break
        centres = new_centres
    if zero:
        centres[np.argmin(np.abs(centres))] = 0.0
    return np.unique(centres.astype(np.float32))


@dataclass(frozen=True)
class _Line:
    """Sorted values, and what lies before each of them and behind the last."""

    values: NDArray[np.float64]
    """``[values]``; the mean of those that count as one."""
    counts: NDArray[np.int64]
    """``[values + 1]``: how many lie before."""
    sums: NDArray[np.float64]
    """``[values + 1]``: their sum."""
    squares: NDArray[np.float64]
    """``[values + 1]``: the sum of their squares."""


def _few_distinct(ordered: NDArray[np.float32], most: int) -> NDArray[np.float32] | None:
    """Return the distinct values; None if there are more than so many."""
    distinct = np.unique(ordered[: 4 * most])
    for chunk in _chunks(ordered):
        if len(distinct) > most:
            return None
        distinct = np.union1d(distinct, chunk)
    return distinct if len(distinct) <= most else None


def _line_of(ordered: NDArray[np.float32]) -> _Line:
    """Return sorted values for sums over segments; it has at most a few million entries."""
    sums, counts = list[NDArray[np.float64]](), list[NDArray[np.int64]]()
    for chunk in _chunks(ordered):
        starts = _starts(chunk, max(ordered.size // _EXACT, 1))
        sums.append(np.add.reduceat(chunk.astype(np.float64), starts))
        counts.append(np.diff(starts, append=len(chunk)))
    summed, counted = np.concatenate(sums), np.concatenate(counts)
    values = summed / counted
    return _Line(values, _before(counted), _before(summed), _before(counted * values**2))


def _starts(chunk: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """Return where runs of sorted values that count as one begin: nearly equal, at most so many.

    Values far from zero are few: they are told apart by their high bits. Those in dense places are
    told apart by their number.
    """
    if most == 1:
        return np.arange(len(chunk))
    high = chunk.view(np.int32) >> _LOW_BITS
    begins = np.flatnonzero(high[1:] != high[:-1]) + 1
    return np.union1d(begins, np.arange(0, len(chunk), most))


def _chunks(array: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    return (array[start : start + _CHUNK] for start in range(0, array.size, _CHUNK))


def _before(array: NDArray[Any]) -> NDArray[Any]:
    """Return what all elements before each one sum up to, and behind the last the sum of all."""
    return np.concatenate([[array.dtype.type(0)], np.cumsum(array)])


def _start(line: _Line, clusters: int) -> NDArray[np.float64]:
    """Return initial centres: repeatedly split the segment with the greatest squared error.

    A segment is split at its mean. Outliers thus get centres, which Lloyd's algorithm alone would
    not give them.
    """
    segments: list[tuple[float, float, int, int]] = []

    def count(first: int, end: int) -> int:
        return int(line.counts[end] - line.counts[first])

    def mean(first: int, end: int) -> float:
        return float(line.sums[end] - line.sums[first]) / count(first, end)

    def add(first: int, end: int) -> None:
        spread = float(line.values[end - 1] - line.values[first])  # decides where errors round off
        square = float(line.squares[end] - line.squares[first])
        error = max(square - count(first, end) * mean(first, end) ** 2, 0.0) if spread else 0.0
        heappush(segments, (-error, -spread, first, end))

    add(0, len(line.values))
    while len(segments) < clusters and segments[0][1]:  # neighbours may be too alike to split
        _, _, first, end = heappop(segments)
        middle = int(np.searchsorted(line.values, mean(first, end)))
        middle = min(max(middle, first + 1), end - 1)
        add(first, middle)
        add(middle, end)
    return np.sort([mean(first, end) for _, _, first, end in segments])


def nearest(values: NDArray[np.floating[Any]], centres: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the index of the nearest centre for each value; the values' shape."""
    middles = (centres[1:] + centres[:-1]) / 2
    indices = np.empty(values.size, np.uint8)
    flat = values.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        indices[part] = np.searchsorted(middles, flat[part])
    return indices.reshape(values.shape)
