"""Affine quantization of arrays: ``real = (integer - zero_point) * scale``.

Rounding is half to even and values saturate, as ONNX's QuantizeLinear does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.steps import Quantize

Floats = NDArray[np.float32]

BITS = {
    **{f"int{bits}": bits for bits in (*range(2, 9), 16)},
    **{f"uint{bits}": bits for bits in range(4, 9)},
}
"""The number of bits of each type that weights and activations may have."""

STORED_BITS = 8
"""The number of bits of the type that replaces types with fewer bits: kernels compute with it."""

_SHRINKS = np.linspace(0.35, 1.0, 27)
"""The shares of the greatest magnitude that are tried as the range of a type with few levels."""
_SMALLER = 0.35 * 0.93 ** np.arange(1, 40)
"""Shares that are tried after those, the largest first, as long as a channel errs less: few levels
serve most weights of a channel better than its few largest ones."""

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Grid:
    """The mapping from integers to real values: scale, zero point and limits."""

    scale: Floats
    """``[]`` or, per channel, ``[channels]``; positive."""
    zero_point: NDArray[Any]
    """The zero point in the integer type; the shape of ``scale``."""
    axis: int | None = None
    """The axis of the channels; None for a single scale."""
    ends: tuple[int, int] | None = None
    """The smallest and largest integer in use; None for all integers of the type."""

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and largest integer."""
        return self.ends or limits_of(str(self.zero_point.dtype))

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and largest value of a grid with one scale."""
        ends = np.array(self.limits, np.float64) - float(self.zero_point)
        low, high = (ends * float(self.scale)).tolist()
        return low, high

    def reshaped(self, rank: int) -> tuple[Floats, NDArray[Any]]:
        """Return scale and zero point so that they broadcast over an array of ``rank``."""
        if self.axis is None:
            return self.scale, self.zero_point
        shape = [1] * rank
        shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero_point.reshape(shape)


def limits_of(dtype: str) -> tuple[int, int]:
    """Return the smallest and largest integer of a type of ``BITS``."""
    count = int(2 ** BITS[dtype])
    least = 0 if dtype.startswith("u") else -count // 2
    return least, least + count - 1


def _stored_as(dtype: str) -> str:
    """Return numpy's name of the smallest type that contains a type of ``BITS``."""
    return f"{dtype.rstrip('0123456789')}{max(BITS[dtype], STORED_BITS)}"


def range_grid(low: float, high: float, dtype: str, *, symmetric: bool) -> Grid:
    """Return the grid that covers ``[low, high]`` and represents zero exactly.

    A type of fewer than eight bits uses the first levels of uint8.

    Args:
        low: the smallest value to represent.
        high: the largest value to represent.
        dtype: a key of ``BITS``; the grid's type has whole bytes in any case.
        symmetric: whether the range is centred on zero.
    """
    least, most = limits_of(dtype)
    low, high = min(low, 0.0), max(high, 0.0)
    steps = most - least
    if symmetric:
        half = steps // 2
        scale = max(-low, high) / half
        zero = least + half + 1
    else:
        scale = (high - low) / steps
        zero = least - round(low / scale) if scale > 0 else least
    step = rounded_down(scale) if scale > SMALLEST_SCALE else np.float32(1)
    zero = int(np.clip(zero, least, most))
    stored = _stored_as(dtype)
    ends = None if stored == dtype else (least, most)
    return Grid(np.array(step), np.array(zero, stored), ends=ends)


def rounded_down(scale: float) -> np.float32:
    """Return the nearest float32 that is not greater, so that a grid stays within its range."""
    nearest = np.float32(scale)
    return nearest if nearest <= scale else np.nextafter(nearest, np.float32(0))


def weight_grid(
    weights: Floats, dtype: str, axis: int | None, smallest: Floats | float = 0.0
) -> Grid:
    """Return the grid of a weight tensor, symmetric about its middle: 0, or 128 for uint8.

    onnxruntime's kernels need one zero point for all channels, so asymmetry would gain nothing.
    Eight bits cover every weight. With fewer bits the largest weights are clipped if that reduces
    the mean squared error.

    Args:
        weights: finite weights of any shape.
        dtype: a key of ``BITS``; the grid's type has eight bits in any case.
        axis: the axis with a scale for each index; None for a single scale.
        smallest: the lower bound of the scales, broadcast over the channels.
    """
    other_axes = None if axis is None else tuple(a for a in range(weights.ndim) if a != axis)
    magnitude = np.max(np.abs(weights), axis=other_axes, initial=0.0)
    top = np.float32(top_level(dtype))
    if BITS[dtype] < 8:
        magnitude = _least_error(weights, magnitude, axis, other_axes, top)
    scale = np.maximum(magnitude / top, smallest).astype(np.float32)
    scale = np.where(scale > SMALLEST_SCALE, scale, np.float32(1))
    stored, middle = _stored_as(dtype), 128 if dtype == "uint8" else 0
    ends = None if stored == dtype else (-int(top), int(top))
    return Grid(scale, np.full(scale.shape, middle, stored), axis, ends)


def weight_rounding(parameters: Quantize) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the function that rounds a matrix ``[outputs, inputs]`` to its grid."""

    def rounded(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = matrix.astype(np.float32)
        grid = weight_grid(weights, parameters.weights, 0 if parameters.per_channel else None)
        return dequantize(quantize(weights, grid), grid).astype(np.float64)

    return rounded


def top_level(dtype: str) -> int:
    """Return the largest magnitude of the integers of a weight of this type."""
    return int(2 ** (BITS[dtype] - 1) - 1)


def _least_error(
    weights: Floats,
    magnitude: Floats,
    axis: int | None,
    other_axes: tuple[int, ...] | None,
    top: np.float32,
) -> Floats:
    """Return, for each channel, the magnitude to cover with the least squared error."""
    shape = [1] * weights.ndim
    if axis is not None:
        shape[axis] = -1
    best, least = magnitude, np.full(magnitude.shape, np.inf)
    for shrink in (*_SHRINKS, *_SMALLER):
        covered = magnitude * np.float32(shrink)
        scale = np.maximum(covered / top, SMALLEST_SCALE).reshape(shape)
        quantized = np.clip(np.rint(weights / scale), -top, top) * scale
        error = np.sum((weights - quantized) ** 2, axis=other_axes)
        if shrink < _SHRINKS[0] and not np.any(error < least):
            break
        best = np.where(error < least, covered, best)
        least = np.minimum(error, least)
    return best.astype(np.float32)


def quantize(array: NDArray[Any], grid: Grid) -> NDArray[Any]:
    """Return the nearest integers of the grid, in its type."""
    scale, zero = grid.reshaped(array.ndim)
    rounded = np.rint(array / scale) + zero.astype(np.float32)
    integers: NDArray[Any] = np.clip(rounded, *grid.limits).astype(zero.dtype)
    return integers


def dequantize(integers: NDArray[Any], grid: Grid) -> Floats:
    """Return the real values of integers."""
    scale, zero = grid.reshaped(integers.ndim)
    return (integers.astype(np.float32) - zero.astype(np.float32)) * scale


def quantize_bias(bias: Floats, scale: Floats) -> NDArray[np.int32]:
    """Return a bias as int32 in units of the product of input and weight scale."""
    limits = np.iinfo(np.int32)
    rounded = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    return np.clip(rounded, limits.min, limits.max).astype(np.int32)
