"""Finds the form in which an array takes the fewest bytes: numbers on a grid, sparse zeros.

``packing`` writes the forms into a graph.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]

FOUR_BIT_OPSET = 21
"""The first opset with 4-bit integers."""

LEAST = 2 << 10
"""The least bytes that a form must save, as its nodes and their names take some."""

_TOPS = (7, 127)
"""The largest multiple that four and eight bits hold, the middle being zero."""
_NEAR = 0.01
"""The tolerance for multiples in the check of a few elements."""
_LOOKED_AT = 512
"""The number of elements in that check."""

_DENSE = 0.95
"""Share of an array that is not zero, above which nothing is saved."""


@dataclass(frozen=True)
class Grid:
    """An array as ``integers · steps``."""

    integers: NDArray[np.int8]
    steps: NDArray[np.float32]
    """The steps, in a shape that broadcasts."""
    four: bool
    """Whether four bits hold the integers."""

    @property
    def nbytes(self) -> int:
        """The bytes that integers and steps take in a file."""
        return _bytes(self.integers, four=self.four) + self.steps.nbytes


@dataclass(frozen=True)
class Sparse:
    """A sparse array: its nonzero values and the gaps between them."""

    gaps: NDArray[np.uint8]
    values: Array
    four: bool
    """Whether four bits hold each gap."""

    def nbytes(self, *, four: bool) -> int:
        """The bytes that it takes in a file; with ``four``, its values take four bits."""
        return _bytes(self.gaps, four=self.four) + _bytes(self.values, four=four)


def has_four_bits(model: ir.Model) -> bool:
    """Return whether the opset of a graph has integers of four bits."""
    return model.graph.opset_imports.get("", 0) >= FOUR_BIT_OPSET


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
    """Return the form that takes the fewest bytes; None if that is the array itself."""
    narrow = opset >= FOUR_BIT_OPSET
    grid = _grid(array, narrow=narrow) if array.dtype == np.float32 else None
    dense = grid.integers if grid is not None else array
    four = grid is not None and grid.four
    steps = grid.steps.nbytes if grid is not None else 0
    sparse = _sparse(dense, narrow=narrow)
    if sparse is not None and _bytes(dense, four=four) - sparse.nbytes(four=four) < LEAST:
        sparse = None
    size = _bytes(dense, four=four) if sparse is None else sparse.nbytes(four=four)
    return (grid, sparse) if array.nbytes - size - steps >= LEAST else None


def _grid(array: NDArray[np.float32], *, narrow: bool) -> Grid | None:
    """Return the grid on which all numbers of an array lie, None where there is none."""
    for axes in channels(array.shape):
        shared_axes = tuple(axis for axis in range(array.ndim) if axis not in axes)
        most = np.abs(array).max(axis=shared_axes, keepdims=True)
        if not np.isfinite(most).all():
            return None
        for top in _TOPS:
            steps = np.where(most > 0, most / np.float32(top), np.float32(1))
            if _may_lie_on(array, steps) and (solution := _lies_on(array, steps, shared_axes)):
                integers, exact = solution
                return Grid(integers, exact, four=narrow and top == _TOPS[0])
    return None


def channels(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the axes along which steps may differ: none, one or two.

    At least 8 elements share a step, so that even kernels of 3 × 3 may have one for each channel.
    """
    yield ()
    ends = sorted({0, 1, len(shape) - 1} & set(range(len(shape))))
    for count in (1, 2):
        for axes in combinations(ends, count):
            if prod(shape) >= 8 * prod(shape[axis] for axis in axes) > 0:
                yield axes


def _may_lie_on(array: NDArray[np.float32], steps: NDArray[np.float32]) -> bool:
    """Return whether a few sampled elements are close to multiples of their steps."""
    places = np.unravel_index(
        np.linspace(0, array.size - 1, min(array.size, _LOOKED_AT)).astype(int), array.shape
    )
    multiples = array[places] / np.broadcast_to(steps, array.shape)[places]
    return bool((np.abs(multiples - np.rint(multiples)) < _NEAR).all())


def _lies_on(
    array: NDArray[np.float32], steps: NDArray[np.float32], shared_axes: tuple[int, ...]
) -> tuple[NDArray[np.int8], NDArray[np.float32]] | None:
    """Return the multiples and the exact steps, which may be a neighbouring float of ``steps``."""
    exact, solved = steps.copy(), np.zeros(steps.shape, bool)
    for towards in (None, np.float32(0), np.float32(np.inf)):
        tried = steps if towards is None else np.nextafter(steps, towards)
        newly_solved = (np.rint(array / tried) * tried == array).all(
            axis=shared_axes, keepdims=True
        ) & ~solved
        exact, solved = np.where(newly_solved, tried, exact), solved | newly_solved
        if solved.all():
            return np.rint(array / exact).astype(np.int8), exact
    return None


def _sparse(array: Array, *, narrow: bool) -> Sparse | None:
    """Return the smaller one of the sparse forms; None if nothing would be saved."""
    if not 0 < np.count_nonzero(array) < _DENSE * array.size or array.size >= 2**31:
        return None
    places = np.flatnonzero(array)
    gaps = np.diff(places, prepend=-1)
    forms = [_split_gaps(gaps, array.reshape(-1)[places], longest=255)]
    if narrow:
        forms.append(_split_gaps(gaps, array.reshape(-1)[places], longest=15))
    return min(forms, key=lambda form: form.nbytes(four=False))


def _split_gaps(gaps: NDArray[np.int64], values: Array, longest: int) -> Sparse:
    """Split gaps that are too long by inserting explicit zeros."""
    last = np.cumsum((gaps - 1) // longest + 1) - 1
    parts = np.full(last[-1] + 1, longest, np.uint8)
    parts[last] = (gaps - 1) % longest + 1
    filled = np.zeros(len(parts), values.dtype)
    filled[last] = values
    return Sparse(parts, filled, four=longest == 15)


def spread(gaps: NDArray[np.uint8], values: Array, shape: list[int], budget: int) -> Array | None:
    """Return an array from its nonzero values; None if it is invalid or too large.

    Args:
        gaps: distances, ``[n]``.
        values: the nonzero values, ``[n]``.
        shape: the shape of the array.
        budget: the largest number of bytes of the array.
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
