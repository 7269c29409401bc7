"""Matrices in blocks of few bits: numpy in, integers, scales and zero points out.

A row of a weight ``[N, K]`` is cut into blocks; each has a scale and an integer zero point of its
own: ``real = (integer - zero) * scale``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_DAMPING = 0.01
"""Share of the mean of the Hessian's diagonal that is added to it."""
_ROUNDS, _NORM, _WEIGHT, _GROWTH = 20, 0.7, 10.0, 1.01
"""HQQ's iterations, p-norm, and the weight of its penalty with its growth."""
_SHRINKS = np.linspace(0.85, 1.0, 4)
"""Parts of a block's range that are tried."""


@dataclass(frozen=True)
class Blocks:
    """A quantized matrix."""

    integers: NDArray[np.uint8]
    """``[N, K]``, from 0 to 2^bits - 1."""
    scales: NDArray[np.float32]
    """``[N, blocks]``."""
    zeros: NDArray[np.uint8]
    """``[N, blocks]``."""
    size: int
    """Of a block."""

    def real(self) -> NDArray[np.float32]:
        """Return the matrix that is left, ``[N, K]``."""
        columns = self.integers.shape[1]
        scales = np.repeat(self.scales, self.size, axis=1)[:, :columns]
        zeros = np.repeat(self.zeros, self.size, axis=1)[:, :columns]
        return (self.integers.astype(np.float32) - zeros) * scales


def round_to_nearest(weight: Array, bits: int, size: int, *, symmetric: bool) -> Blocks:
    """Round to a grid over each block's extremes (RTN)."""
    parts = _blocks(weight, size)
    scales, zeros = _grid(parts, bits, symmetric=symmetric)
    return _rounded(weight, parts, scales, zeros, bits, size)


def half_quadratic(weight: Array, bits: int, size: int) -> Blocks:
    """Choose range and zero point so that outliers cost less (HQQ, Badri & Shaji 2023).

    Minimises a p-norm of the error, p < 1. For each of several parts of a block's range the zero
    point is found by alternating a shrinkage of the error with the offset that fits best; the
    kernels want whole zero points, so the best one is judged after rounding.
    """
    parts = _blocks(weight, size)
    least = np.full((*parts.shape[:2], 1), np.inf)
    best = _grid(parts, bits, symmetric=False)
    for shrink in _SHRINKS:
        scales, start = _grid(parts * shrink, bits, symmetric=False)
        for zeros in (start, _fitting_zeros(parts, scales, start, bits)):
            error = (
                parts - (np.clip(np.rint(parts / scales + zeros), 0, 2**bits - 1) - zeros) * scales
            )
            loss = (np.abs(error) ** _NORM).sum(-1, keepdims=True)
            lower = loss < least
            best = np.where(lower, scales, best[0]), np.where(lower, zeros, best[1])
            least = np.minimum(loss, least)
    return _rounded(weight, parts, *best, bits, size)


def _fitting_zeros(parts: Array, scales: Array, zeros: Array, bits: int) -> Array:
    """Return whole zero points that a half-quadratic descent ends at."""
    top, beta = 2**bits - 1, _WEIGHT
    for _ in range(_ROUNDS):
        integers = np.clip(np.rint(parts / scales + zeros), 0, top)
        error = parts - (integers - zeros) * scales
        magnitude = np.abs(error)
        shrunk = magnitude - np.maximum(magnitude, 1e-12) ** (_NORM - 1) / beta
        kept = np.sign(error) * np.maximum(shrunk, 0)
        zeros = np.mean(integers - (parts - kept) / scales, axis=-1, keepdims=True)
        beta *= _GROWTH
    return np.clip(np.rint(zeros), 0, top)


def gptq(weight: Array, hessian: Array, bits: int, size: int, *, symmetric: bool) -> Blocks:
    """Round column by column, and let the columns to come make up for each error.

    Frantar et al. 2023, "GPTQ", algorithm 1, with the grid of a block found when it is reached.

    Args:
        weight: ``[N, K]``.
        hessian: second moments of the inputs, ``[K, K]``.
        bits: of an integer.
        size: of a block.
        symmetric: the zero point is the middle.
    """
    rest, columns = weight.copy(), weight.shape[1]
    dead = np.diag(hessian) <= 0
    damped = hessian + np.diag(np.where(dead, 1.0, 0.0))
    damped[np.diag_indices(columns)] += _DAMPING * float(np.mean(np.diag(damped)))
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    integers = np.zeros(weight.shape, np.uint8)
    count = -(-columns // size)
    scales = np.zeros((len(weight), count), np.float32)
    zeros = np.zeros((len(weight), count), np.uint8)
    for index, start in enumerate(range(0, columns, size)):
        stop = min(start + size, columns)
        scale, zero = _grid(rest[:, start:stop], bits, symmetric=symmetric)
        scales[:, index], zeros[:, index] = scale[:, 0], zero[:, 0]
        errors = np.zeros((len(weight), stop - start))
        for column in range(start, stop):
            value = rest[:, column : column + 1]
            level = np.clip(np.rint(value / scale + zero), 0, 2**bits - 1)
            integers[:, column] = level[:, 0]
            error = (value - (level - zero) * scale)[:, 0] / upper[column, column]
            rest[:, column:stop] -= np.outer(error, upper[column, column:stop])
            errors[:, column - start] = error
        rest[:, stop:] -= errors @ upper[start:stop, stop:]
    return Blocks(integers, scales, zeros, size)


def packed(integers: NDArray[np.uint8], bits: int, size: int) -> NDArray[np.uint8]:
    """Return ``[N, blocks, bytes]``, the first of two integers of four bits in the lower half."""
    rows, columns = integers.shape
    count = -(-columns // size)
    filled = np.zeros((rows, count * size), np.uint8)
    filled[:, :columns] = integers
    halves = _paired(filled) if bits == 4 else filled
    return halves.reshape(rows, count, -1)


def packed_zeros(zeros: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Return the zero points of ``[N, blocks]``, each row filled up to whole bytes."""
    if bits == 8:
        return zeros
    return _paired(np.pad(zeros, ((0, 0), (0, zeros.shape[1] % 2))))


def _paired(integers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pairs: NDArray[np.uint8] = integers[:, 0::2] | (integers[:, 1::2] << np.uint8(4))
    return pairs


def _blocks(weight: Array, size: int) -> Array:
    """Return ``[N, blocks, size]``; the last block is filled up with its last column."""
    missing = -weight.shape[1] % size
    filled = np.pad(weight, ((0, 0), (0, missing)), mode="edge")
    return filled.reshape(len(weight), -1, size)


def _grid(parts: Array, bits: int, *, symmetric: bool) -> tuple[Array, Array]:
    """Return scales and zero points that cover the last axis, and zero."""
    top = 2**bits - 1
    low = np.minimum(parts.min(-1, keepdims=True), 0.0)
    high = np.maximum(parts.max(-1, keepdims=True), 0.0)
    if symmetric:
        middle = 2 ** (bits - 1)
        scales = np.maximum(-low / middle, high / (middle - 1))
        zeros = np.full(scales.shape, float(middle))
    else:
        scales = (high - low) / top
        zeros = np.clip(np.rint(-low / np.where(scales > 0, scales, 1)), 0, top)
    scales = scales.astype(np.float32).astype(np.float64)
    return np.where(scales > 0, scales, 1.0), zeros


def _rounded(
    weight: Array, parts: Array, scales: Array, zeros: Array, bits: int, size: int
) -> Blocks:
    levels = np.clip(np.rint(parts / scales + zeros), 0, 2**bits - 1).astype(np.uint8)
    integers: NDArray[Any] = levels.reshape(len(weight), -1)[:, : weight.shape[1]]
    return Blocks(integers, scales[..., 0].astype(np.float32), zeros[..., 0].astype(np.uint8), size)
