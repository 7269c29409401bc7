"""Blockwise quantization of matrices: numpy in; integers, scales and zero points out.

Each row of a weight ``[N, K]`` is cut into blocks. Each block has a scale and an integer zero
point: ``real = (integer - zero) * scale``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_DAMPING = 0.01
"""The damping of the Hessian: this share of its mean diagonal is added to the diagonal."""
_ROUNDS, _NORM, _WEIGHT, _GROWTH = 20, 0.7, 10.0, 1.01
"""HQQ's number of iterations, its p-norm, the weight of its penalty, and the weight's growth."""
_SHRINKS = np.linspace(0.85, 1.0, 4)
"""The shares of a block's range that are tried as its range."""


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
    """The number of columns in a block."""

    def real(self) -> NDArray[np.float32]:
        """Return the dequantized matrix, ``[N, K]``."""
        columns = self.integers.shape[1]
        scales = np.repeat(self.scales, self.size, axis=1)[:, :columns]
        zeros = np.repeat(self.zeros, self.size, axis=1)[:, :columns]
        return (self.integers.astype(np.float32) - zeros) * scales


def round_to_nearest(weight: Array, bits: int, size: int, *, symmetric: bool) -> Blocks:
    """Round to a grid from each block's minimum to its maximum (RTN)."""
    parts = _blocks(weight, size)
    scales, zeros = _grid(parts, bits, symmetric=symmetric)
    return _rounded(weight, parts, scales, zeros, bits, size)


def half_quadratic(weight: Array, bits: int, size: int) -> Blocks:
    """Choose range and zero point so that outliers weigh less (HQQ, Badri & Shaji 2023).

    HQQ minimises a p-norm of the error, p < 1. For each of several ranges, a descent alternates
    between shrinking the error and fitting the zero point. The kernels need integer zero points, so
    the candidates are compared after rounding.
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
    """Return the integer zero points that the half-quadratic descent finds."""
    top, beta = 2**bits - 1, _WEIGHT
    for _ in range(_ROUNDS):
        integers = np.clip(np.rint(parts / scales + zeros), 0, top)
        error = parts - (integers - zeros) * scales
        magnitude = np.abs(error)
        shrunk_magnitude = magnitude - np.maximum(magnitude, 1e-12) ** (_NORM - 1) / beta
        shrunk_error = np.sign(error) * np.maximum(shrunk_magnitude, 0)
        zeros = np.mean(integers - (parts - shrunk_error) / scales, axis=-1, keepdims=True)
        beta *= _GROWTH
    return np.clip(np.rint(zeros), 0, top)


def gptq(weight: Array, hessian: Array, bits: int, size: int, *, symmetric: bool) -> Blocks:
    """Round column by column; later columns compensate for the error of each column.

    Frantar et al. 2023, "GPTQ", algorithm 1. The grid of a block is computed when it is reached.

    Args:
        weight: ``[N, K]``.
        hessian: the second moments of the inputs, ``[K, K]``.
        bits: the number of bits of an integer.
        size: the size of a block.
        symmetric: whether the zero point is the middle of the integers.
    """
    remaining, columns = weight.copy(), weight.shape[1]
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
        scale, zero = _grid(remaining[:, start:stop], bits, symmetric=symmetric)
        scales[:, index], zeros[:, index] = scale[:, 0], zero[:, 0]
        errors = np.zeros((len(weight), stop - start))
        for column in range(start, stop):
            value = remaining[:, column : column + 1]
            level = np.clip(np.rint(value / scale + zero), 0, 2**bits - 1)
            integers[:, column] = level[:, 0]
            error = (value - (level - zero) * scale)[:, 0] / upper[column, column]
            remaining[:, column:stop] -= np.outer(error, upper[column, column:stop])
            errors[:, column - start] = error
        remaining[:, stop:] -= errors @ upper[start:stop, stop:]
    return Blocks(integers, scales, zeros, size)


def packed(integers: NDArray[np.uint8], bits: int, size: int) -> NDArray[np.uint8]:
    """Return the integers packed as ``[N, blocks, bytes]``; of two in a byte, the first is low."""
    rows, columns = integers.shape
    count = -(-columns // size)
    filled = np.zeros((rows, count * size), np.uint8)
    filled[:, :columns] = integers
    halves = _paired(filled) if bits == 4 else filled
    return halves.reshape(rows, count, -1)


def packed_zeros(zeros: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Return the packed zero points ``[N, bytes]``, each row padded to whole bytes."""
    if bits == 8:
        return zeros
    return _paired(np.pad(zeros, ((0, 0), (0, zeros.shape[1] % 2))))


def _paired(integers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pairs: NDArray[np.uint8] = integers[:, 0::2] | (integers[:, 1::2] << np.uint8(4))
    return pairs


def _blocks(weight: Array, size: int) -> Array:
    """Return the weight as ``[N, blocks, size]``; the last block is padded with its last column."""
    missing = -weight.shape[1] % size
    filled = np.pad(weight, ((0, 0), (0, missing)), mode="edge")
    return filled.reshape(len(weight), -1, size)


def _grid(parts: Array, bits: int, *, symmetric: bool) -> tuple[Array, Array]:
    """Return scales and zero points of grids that cover the last axis and contain zero."""
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
