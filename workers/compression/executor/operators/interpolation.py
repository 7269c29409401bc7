"""Interpolation along one axis, in every mode of ONNX, as a product with a matrix of weights."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kernel:
    """The attributes of a Resize that determine its interpolation."""

    mode: str
    coordinates: str
    rounding: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    outside: float = 0.0
    """The value of elements outside of the tensor, for ``tf_crop_and_resize``."""


def resample(
    kernel: Kernel, x: Tensor, axis: int, scale: float, size: int, region: tuple[float, float]
) -> Tensor:
    """Interpolate along one axis.

    Args:
        kernel: the interpolation.
        x: a tensor of any shape.
        axis: the axis.
        scale: the ratio of the new size to the old one, as given or computed.
        size: the new size.
        region: start and end of the part of the axis that is read, as shares of its length; for
            ``tf_crop_and_resize``.

    Source: the ONNX specification of Resize and its reference implementation.
    """
    length = x.shape[axis]
    positions = _coordinates(kernel, length, scale, size, region)
    outside = (positions < 0) | (positions > length - 1)
    if kernel.mode == "nearest":
        indices = torch.from_numpy(_nearest(kernel, positions).clip(0, length - 1)).to(x.device)
        y = x.index_select(axis, indices)
    else:
        matrix = torch.from_numpy(_weights(kernel, positions, scale, length)).to(x.device)
        kind = x.dtype if x.is_floating_point() else torch.float32
        y = torch.movedim(torch.movedim(x.to(kind), axis, -1) @ matrix.to(kind), -1, axis)
        y = y if x.is_floating_point() else y.round().to(x.dtype)
    if kernel.coordinates != "tf_crop_and_resize" or not outside.any():
        return y
    mask = torch.from_numpy(outside).to(x.device).reshape(-1, *(1,) * (x.ndim - 1 - axis))
    return y.masked_fill(mask, kernel.outside)


def _coordinates(
    kernel: Kernel, length: int, scale: float, size: int, region: tuple[float, float]
) -> _Floats:
    """Return the position of each new element on the old axis."""
    new = np.arange(size, dtype=np.float64)
    mode = kernel.coordinates
    if mode == "asymmetric":
        return new / scale
    if mode == "align_corners":
        last = length * scale - 1
        return new * (length - 1) / last if last else np.zeros(size)
    if mode == "tf_crop_and_resize":
        start, end = region
        last = length * scale - 1
        if not last:
            return np.full(size, 0.5 * (start + end) * (length - 1))
        return start * (length - 1) + new * (end - start) * (length - 1) / last
    if mode == "pytorch_half_pixel" and size == 1:
        return np.full(1, -0.5)
    positions = (new + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        positions += length / 2 * (1 - size / (length * scale))
    return positions


def _nearest(kernel: Kernel, positions: _Floats) -> NDArray[np.int64]:
    rounded = {
        "round_prefer_floor": lambda: np.ceil(positions - 0.5),
        "round_prefer_ceil": lambda: np.floor(positions + 0.5),
        "floor": lambda: np.floor(positions),
        "ceil": lambda: np.ceil(positions),
    }[kernel.rounding]()
    return rounded.astype(np.int64)


def _weights(kernel: Kernel, positions: _Floats, scale: float, length: int) -> _Floats:
    """Return the weights of the old elements (rows) in the new elements (columns)."""
    shrink = min(scale, 1.0) if kernel.antialias else 1.0
    reach = int(np.ceil((2 if kernel.mode == "cubic" else 1) / shrink))
    matrix = np.zeros((length, positions.size))
    columns = np.arange(positions.size)
    base = np.floor(positions).astype(np.int64)
    for offset in range(-reach, reach + 1):
        indices = base + offset
        distance = np.abs(indices - positions) * shrink
        weights = _cubic(distance, kernel.cubic) if kernel.mode == "cubic" else 1 - distance
        weights = np.where(distance < (2 if kernel.mode == "cubic" else 1), weights, 0.0)
        if kernel.exclude_outside:
            weights = np.where((indices < 0) | (indices >= length), 0.0, weights)
        np.add.at(matrix, (indices.clip(0, length - 1), columns), weights)
    if kernel.exclude_outside or kernel.antialias:
        matrix /= matrix.sum(0)
    return matrix


def _cubic(distance: _Floats, a: float) -> _Floats:
    """Return the cubic convolution kernel of Keys (1981)."""
    d = distance
    inner = ((a + 2) * d - (a + 3)) * d * d + 1
    outer = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, inner, outer)
