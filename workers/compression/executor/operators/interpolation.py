"""Interpolation along one axis, in every form that ONNX knows, as a matrix of weights."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kernel:
    """How a Resize reads between elements; the fields are its attributes."""

    mode: str
    coordinates: str
    rounding: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    outside: float = 0.0
    """What is read outside of the region, for ``tf_crop_and_resize``."""


def resample(
    kernel: Kernel, x: Tensor, axis: int, scale: float, size: int, region: tuple[float, float]
) -> Tensor:
    """Interpolate along one axis.

    Args:
        kernel: how.
        x: any shape.
        axis: which.
        scale: of the new size to the old one, as given or computed.
        size: the new one.
        region: what part of the axis is read, from 0 to 1; for ``tf_crop_and_resize``.

    Source: the ONNX specification of Resize and its reference implementation.
    """
    length = x.shape[axis]
    at = _coordinates(kernel, length, scale, size, region)
    outside = (at < 0) | (at > length - 1)
    if kernel.mode == "nearest":
        places = torch.from_numpy(_nearest(kernel, at).clip(0, length - 1)).to(x.device)
        y = x.index_select(axis, places)
    else:
        matrix = torch.from_numpy(_weights(kernel, at, scale, length)).to(x.device)
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
    """Return where each new element lies in the old axis."""
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
    at = (new + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        at += length / 2 * (1 - size / (length * scale))
    return at


def _nearest(kernel: Kernel, at: _Floats) -> NDArray[np.int64]:
    rounded = {
        "round_prefer_floor": lambda: np.ceil(at - 0.5),
        "round_prefer_ceil": lambda: np.floor(at + 0.5),
        "floor": lambda: np.floor(at),
        "ceil": lambda: np.ceil(at),
    }[kernel.rounding]()
    return rounded.astype(np.int64)


def _weights(kernel: Kernel, at: _Floats, scale: float, length: int) -> _Floats:
    """Return the weight of each old element (rows) in each new one (columns)."""
    narrow = min(scale, 1.0) if kernel.antialias else 1.0
    reach = int(np.ceil((2 if kernel.mode == "cubic" else 1) / narrow))
    matrix = np.zeros((length, at.size))
    columns = np.arange(at.size)
    base = np.floor(at).astype(np.int64)
    for offset in range(-reach, reach + 1):
        places = base + offset
        distance = np.abs(places - at) * narrow
        weights = _cubic(distance, kernel.cubic) if kernel.mode == "cubic" else 1 - distance
        weights = np.where(distance < (2 if kernel.mode == "cubic" else 1), weights, 0.0)
        if kernel.exclude_outside:
            weights = np.where((places < 0) | (places >= length), 0.0, weights)
        np.add.at(matrix, (places.clip(0, length - 1), columns), weights)
    if kernel.exclude_outside or kernel.antialias:
        matrix /= matrix.sum(0)
    return matrix


def _cubic(distance: _Floats, a: float) -> _Floats:
    """Return the cubic convolution kernel of Keys (1981)."""
    d = distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, far)
