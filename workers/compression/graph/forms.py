"""In which form an array takes the fewest bytes: numbers of a grid, and zeros that are left out.

See ``packing`` for what the forms mean in a graph.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FOUR_BIT_OPSET = 21
"""The first one that has integers of four bits."""

LEAST = 2 << 10
"""Bytes that a form must save: its nodes and their names take some."""

_TOPS = (7, 127)
"""The largest multiple that four and eight bits hold, the middle being zero."""
_NEAR = 0.01
"""How far from a whole number a multiple may be in a first look."""
_LOOKED_AT = 512
"""Elements of that look."""

_DENSE = 0.95
"""Share of an array that is not zero, above which nothing is saved."""


@dataclass(frozen=True)
class Grid:
    """An array as ``integers · steps``."""

    integers: NDArray[np.int8]
    steps: NDArray[np.float32]
    """In a shape that broadcasts."""
    four: bool
    """Whether four bits hold the integers."""

    @property
    def nbytes(self) -> int:
        """The bytes that they take in a file."""
        return _bytes(self.integers, four=self.four) + self.steps.nbytes


@dataclass(frozen=True)
class Sparse:
    """An array by what is not zero in it."""

    gaps: NDArray[np.uint8]
    values: Array
    four: bool
    """Whether four bits hold each gap."""

    def nbytes(self, *, four: bool) -> int:
        """The bytes that it takes in a file, its values in four bits or not."""
        return _bytes(self.gaps, four=self.four) + _bytes(self.values, four=four)


def stored_bytes(array: Array) -> int:
    """Return the bytes that an array takes in a file of the newest opset, in its smallest form."""
    forms = smallest(array, FOUR_BIT_OPSET)
    if forms is None:
        return array.nbytes
    grid, sparse = forms
    if sparse is None:
        assert grid is not None
        return grid.nbytes
    steps = grid.steps.nbytes if grid is not None else 0
    return sparse.nbytes(four=grid is not None and grid.four) + steps


def _bytes(array: Array, *, four: bool) -> int:
    return (array.size + 1) // 2 if four else array.nbytes


def smallest(array: Array, opset: int) -> tuple[Grid | None, Sparse | None] | None:
    """Return the form that takes the fewest bytes; None where that is the array itself."""
    narrow = opset >= FOUR_BIT_OPSET
    grid = _grid(array, narrow=narrow) if array.dtype == np.float32 else None
    dense = grid.integers if grid is not None else array
    four = grid is not None and grid.four
    steps = grid.steps.nbytes if grid is not None else 0
    sparse = _sparse(dense, narrow=narrow)
    if sparse is not None and _bytes(dense, four=four) - sparse.nbytes(four=four) < LEAST:
        sparse = None
    taken = _bytes(dense, four=four) if sparse is None else sparse.nbytes(four=four)
    return (grid, sparse) if array.nbytes - taken - steps >= LEAST else None


def _grid(array: NDArray[np.float32], *, narrow: bool) -> Grid | None:
    """Return the grid on which all numbers of an array lie, None where there is none."""
    for axes in channels(array.shape):
        others = tuple(axis for axis in range(array.ndim) if axis not in axes)
        most = np.abs(array).max(axis=others, keepdims=True)
        if not np.isfinite(most).all():
            return None
        for top in _TOPS:
            steps = np.where(most > 0, most / np.float32(top), np.float32(1))
            if _may_lie_on(array, steps) and (found := _lies_on(array, steps, others)):
                integers, exact = found
                return Grid(integers, exact, four=narrow and top == _TOPS[0])
    return None


def channels(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the axes along which steps may differ: none, one, or two; 16 elements share a step."""
    yield ()
    ends = sorted({0, 1, len(shape) - 1} & set(range(len(shape))))
    for count in (1, 2):
        for axes in combinations(ends, count):
            if prod(shape) >= 16 * prod(shape[axis] for axis in axes) > 0:
                yield axes


def _may_lie_on(array: NDArray[np.float32], steps: NDArray[np.float32]) -> bool:
    """Return whether a few elements are near to multiples of their steps."""
    places = np.unravel_index(
        np.linspace(0, array.size - 1, min(array.size, _LOOKED_AT)).astype(int), array.shape
    )
    multiples = array[places] / np.broadcast_to(steps, array.shape)[places]
    return bool((np.abs(multiples - np.rint(multiples)) < _NEAR).all())


def _lies_on(
    array: NDArray[np.float32], steps: NDArray[np.float32], others: tuple[int, ...]
) -> tuple[NDArray[np.int8], NDArray[np.float32]] | None:
    """Return multiples and exact steps, which may be the floats next to ``steps``."""
    exact, found = steps.copy(), np.zeros(steps.shape, bool)
    for towards in (None, np.float32(0), np.float32(np.inf)):
        tried = steps if towards is None else np.nextafter(steps, towards)
        hit = (np.rint(array / tried) * tried == array).all(axis=others, keepdims=True) & ~found
        exact, found = np.where(hit, tried, exact), found | hit
        if found.all():
            return np.rint(array / exact).astype(np.int8), exact
    return None


def _sparse(array: Array, *, narrow: bool) -> Sparse | None:
    """Return the smaller of both forms of what is not zero; None where nothing would be saved."""
    if not 0 < np.count_nonzero(array) < _DENSE * array.size or array.size >= 2**31:
        return None
    places = np.flatnonzero(array)
    gaps = np.diff(places, prepend=-1)
    forms = [_parted(gaps, array.reshape(-1)[places], longest=255)]
    if narrow:
        forms.append(_parted(gaps, array.reshape(-1)[places], longest=15))
    return min(forms, key=lambda each: each.nbytes(four=False))


def _parted(gaps: NDArray[np.int64], values: Array, longest: int) -> Sparse:
    """Part gaps that are too long by zeros."""
    last = np.cumsum((gaps - 1) // longest + 1) - 1
    parts = np.full(last[-1] + 1, longest, np.uint8)
    parts[last] = (gaps - 1) % longest + 1
    filled = np.zeros(len(parts), values.dtype)
    filled[last] = values
    return Sparse(parts, filled, four=longest == 15)


def spread(gaps: NDArray[np.uint8], values: Array, shape: list[int], budget: int) -> Array | None:
    """Return an array from what is not zero in it; None where that is impossible, or too large.

    Args:
        gaps: distances, ``[n]``.
        values: as many.
        shape: of the array.
        budget: bytes that it may take.
    """
    count = prod(shape)
    if min(shape, default=0) < 1 or count * values.itemsize > budget or values.shape != gaps.shape:
        return None
    places = np.cumsum(gaps, dtype=np.int64) - 1
    if not len(places) or places[0] < 0 or places[-1] >= count:
        return None
    flat = np.zeros(count, values.dtype)
    flat[places] = values
    return flat.reshape(shape)
