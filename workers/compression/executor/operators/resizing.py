"""Resize and Upsample."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.node import Node, listed
from workers.compression.executor.operators.interpolation import Kernel, resample
from workers.compression.executor.plan import Function


def resize(node: Node) -> Function:
    """Resize by scales or to sizes."""
    kernel = Kernel(
        node.text("mode", "nearest"),
        node.text("coordinate_transformation_mode", "half_pixel"),
        node.text("nearest_mode", "round_prefer_floor"),
        node.real("cubic_coeff_a", -0.75),
        bool(node.integer("exclude_outside")),
        bool(node.integer("antialias")),
        node.real("extrapolation_value"),
    )
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    axes = node.integers("axes")
    constants = node.bind(1, 2, 3)
    if constants is None:
        return partial(_resize_by, kernel, axes, policy)
    region, scales, sizes = constants
    return partial(
        _resize,
        kernel,
        axes,
        policy,
        None if region is None or not region.size else tuple(region.tolist()),
        None if scales is None or not scales.size else tuple(scales.tolist()),
        None if sizes is None or not sizes.size else listed(sizes),
    )


def _resize_by(
    kernel: Kernel,
    axes: Sequence[int] | None,
    policy: str,
    x: Tensor,
    region: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    values = [
        tensor.tolist() if tensor is not None and tensor.numel() else None
        for tensor in (region, scales, sizes)
    ]
    return _resize(kernel, axes, policy, values[0], values[1], values[2], x)


def _resize(
    kernel: Kernel,
    axes: Sequence[int] | None,
    policy: str,
    region: Sequence[float] | None,
    scales: Sequence[float] | None,
    sizes: Sequence[int] | None,
    x: Tensor,
) -> Tensor:
    resized = [axis % x.ndim for axis in (range(x.ndim) if axes is None else axes)]
    old_sizes = [x.shape[axis] for axis in resized]
    if sizes is not None:
        factors = [
            1.0 if size == old_size else size / old_size
            for size, old_size in zip(sizes, old_sizes, strict=True)
        ]
        if policy != "stretch":
            factor = min(factors) if policy == "not_larger" else max(factors)
            factors = [factor] * len(factors)
            sizes = [int(factor * old_size + 0.5) for old_size in old_sizes]
    else:
        factors = list(scales or ())
        sizes = list(map(_scaled, old_sizes, factors))
    if _native(kernel, x, resized, factors, sizes):
        return _interpolate(kernel, sizes[-2:], x)
    count = len(resized)
    for index, axis in enumerate(resized):
        bounds = (0.0, 1.0) if region is None else (region[index], region[count + index])
        if sizes[index] != x.shape[axis] or factors[index] != 1 or bounds != (0.0, 1.0):
            x = resample(kernel, x, axis, factors[index], sizes[index], bounds)
    return x


def _scaled(size: int, factor: float) -> int:
    """Return a size times a factor, rounded down; of a symbol of an export, a symbol."""
    if factor == int(factor):
        return size * int(factor)
    rounded: Callable[[float], int] = torch.sym_int
    return rounded(factor * size)


def _native(
    kernel: Kernel,
    x: Tensor,
    resized: Sequence[int],
    factors: Sequence[float],
    sizes: Sequence[int],
) -> bool:
    """Return whether torch's interpolation of images computes the same result."""
    if x.ndim != 4 or not x.is_floating_point() or kernel.antialias or kernel.exclude_outside:
        return False
    fixed = dict(zip(resized, sizes, strict=True))
    if any(fixed.get(axis, x.shape[axis]) != x.shape[axis] for axis in (0, 1)):
        return False
    exact = all(
        factor == 1 or factor * x.shape[axis] == size
        for axis, factor, size in zip(resized, factors, sizes, strict=True)
    )
    if list(resized)[-2:] != [2, 3] or not exact:
        return False
    coordinates = kernel.coordinates
    if kernel.mode == "linear":
        return coordinates in {"half_pixel", "align_corners"} or (
            coordinates == "pytorch_half_pixel" and min(sizes) > 1
        )
    if kernel.mode == "nearest" and all(factor == int(factor) for factor in factors):
        return (coordinates, kernel.rounding) in {
            ("asymmetric", "floor"),
            ("half_pixel", "round_prefer_floor"),
            ("half_pixel", "round_prefer_ceil"),
        }
    return False


def _interpolate(kernel: Kernel, sizes: Sequence[int], x: Tensor) -> Tensor:
    if kernel.mode == "nearest":
        return F.interpolate(x, list(sizes), mode="nearest")
    corners = kernel.coordinates == "align_corners"
    return F.interpolate(x, list(sizes), mode="bilinear", align_corners=corners)
