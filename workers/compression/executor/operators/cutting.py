"""Operators that cut, join, repeat and pad tensors."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.dtypes import to_torch
from workers.compression.executor.node import Node, listed
from workers.compression.executor.operators.windows import interleaved
from workers.compression.executor.plan import Function


def concat(node: Node) -> Function:
    """Concat."""
    return partial(_concat, node.integer("axis"))


def _concat(axis: int, *tensors: Tensor) -> Tensor:
    return torch.cat(tensors, axis)


def split(node: Node) -> Function:
    """Split into parts of given sizes, or into a number of parts; the last may be smaller."""
    axis, parts = node.integer("axis"), len(node.outputs)
    if (constants := node.bind(1)) is None:
        return partial(_split_at, axis)
    return partial(_split, axis, listed(constants[0]) or node.integer("num_outputs", parts))


def _split(axis: int, sizes: Sequence[int] | int, x: Tensor) -> tuple[Tensor, ...]:
    if isinstance(sizes, int):
        return tuple(torch.split(x, -(-x.shape[axis] // sizes), axis))
    return tuple(torch.split(x, list(sizes), axis))


def _split_at(axis: int, x: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
    return _split(axis, sizes.tolist(), x)


def slice_(node: Node) -> Function:
    """Slice."""
    constants = node.bind(1, 2, 3, 4)
    if constants is None:
        return _slice_at
    starts, ends, axes, steps = (listed(constant) for constant in constants)
    return partial(_slice, starts or (), ends or (), axes, steps)


def _slice_at(
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    limits = [None if tensor is None else tensor.tolist() for tensor in (starts, ends, axes, steps)]
    return _slice(limits[0] or (), limits[1] or (), limits[2], limits[3], x)


def _slice(
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
    x: Tensor,
) -> Tensor:
    axes = range(len(starts)) if axes is None else axes
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(starts), strict=True):
        dim = axis % x.ndim
        if step > 0:
            x = x[(slice(None),) * dim + (slice(start, end, step),)]
        else:
            x = _backwards(x, dim, range(x.shape[dim])[slice(start, end, step)])
    return x


def _backwards(x: Tensor, dim: int, indices: range) -> Tensor:
    """Take elements at falling indices along an axis: converters take a flip, and no index."""
    if not indices:
        return x.narrow(dim, 0, 0)
    last = x.shape[dim] - 1
    chosen = slice(last - indices[0], last - indices[-1] + 1, -indices.step)
    return x.flip(dim)[(slice(None),) * dim + (chosen,)]


def tile(node: Node) -> Function:
    """Tile."""
    constants = node.bind(1)
    return _tile if constants is None else partial(torch.tile, dims=listed(constants[0]) or ())


def _tile(x: Tensor, repeats: Tensor) -> Tensor:
    return x.tile(repeats.tolist())


def pad(node: Node) -> Function:
    """Pad, on the given axes or on all."""
    mode = node.text("mode", "constant")
    if (value := node.constant(2)) is not None:
        number = value.astype(object).item()
    elif node.has(2):
        return partial(_pad_at, mode)
    else:
        number = 0
    constants = node.bind(1, 3)
    if constants is None:
        return partial(_pad_at, mode)
    node.bound.add(2)
    return partial(_pad, mode, listed(constants[0]) or (), listed(constants[1]), number)


def _pad_at(
    mode: str, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    number = 0 if value is None else value.item()
    return _pad(mode, pads.tolist(), None if axes is None else axes.tolist(), number, x)


def _pad(
    mode: str, pads: Sequence[int], axes: Sequence[int] | None, value: float, x: Tensor
) -> Tensor:
    begins, ends = [0] * x.ndim, [0] * x.ndim
    count = len(pads) // 2
    for index, axis in enumerate(range(x.ndim) if axes is None else axes):
        begins[axis], ends[axis] = pads[index], pads[count + index]
    if mode == "constant":
        return F.pad(x, list(interleaved(begins, ends)), value=value)
    for axis in range(x.ndim):
        x = _pad_axis(mode, axis, begins[axis], ends[axis], x)
    return x


def _pad_axis(mode: str, axis: int, begin: int, end: int, x: Tensor) -> Tensor:
    """Pad one axis with elements of the tensor: ``edge``, ``reflect`` or ``wrap``."""
    if begin == end == 0:
        return x
    size = x.shape[axis]
    indices = np.arange(-begin, size + end)
    if mode == "edge":
        indices = indices.clip(0, size - 1)
    elif mode == "wrap":
        indices %= size
    else:
        period = max(2 * (size - 1), 1)
        indices %= period
        indices = np.where(indices < size, indices, period - indices)
    return x.index_select(axis, to_torch(indices).to(x.device))


def center_crop_pad(node: Node) -> Function:
    """CenterCropPad: to a shape, on the given axes or on all."""
    constants = node.bind(1)
    axes = node.integers("axes")
    if constants is None:
        return partial(_center_at, axes)
    return partial(_center, axes, listed(constants[0]) or ())


def _center_at(axes: Sequence[int] | None, x: Tensor, shape: Tensor) -> Tensor:
    return _center(axes, shape.tolist(), x)


def _center(axes: Sequence[int] | None, sizes: Sequence[int], x: Tensor) -> Tensor:
    for axis, new_size in zip(range(x.ndim) if axes is None else axes, sizes, strict=True):
        old_size = x.shape[axis]
        if old_size > new_size:
            x = x.narrow(axis, (old_size - new_size) // 2, new_size)
        else:
            missing = new_size - old_size
            pads = [missing // 2, missing - missing // 2]
            x = _pad("constant", pads, [axis], 0, x)
    return x
