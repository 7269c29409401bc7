"""Operators that rearrange the elements of one tensor, or say its shape."""

from collections.abc import Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.node import Node, Unsupported, listed
from workers.compression.executor.plan import Function
from workers.compression.executor.symbolic import Sizes, sizes_of


def reshape(node: Node) -> Function:
    """Reshape: a 0 keeps the size of its axis, unless ``allowzero``."""
    zero_keeps_size = not node.integer("allowzero")
    if (constants := node.bind(1)) is None:
        return partial(_reshape_to, zero_keeps_size)
    shape = listed(constants[0])
    assert shape is not None
    if zero_keeps_size and 0 in shape:
        return partial(_reshape_keeping, shape)
    return partial(torch.reshape, shape=shape)


def _reshape_to(zero_keeps_size: bool, x: Tensor, shape: Tensor) -> Tensor:
    sizes = shape.tolist()
    return _reshape_keeping(sizes, x) if zero_keeps_size else x.reshape(sizes)


def _reshape_keeping(shape: Sequence[int], x: Tensor) -> Tensor:
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)])


def flatten(node: Node) -> Function:
    """Flatten to a matrix."""
    axis = node.integer("axis", 1)
    return (
        partial(torch.flatten, start_dim=1)
        if axis == 1 and (node.rank(0) or 0) > 1
        else (partial(_flatten, axis))
    )


def _flatten(axis: int, x: Tensor) -> Tensor:
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


def transpose(node: Node) -> Function:
    """Transpose; without ``perm`` the axes are reversed."""
    order = node.integers("perm")
    return _reverse if order is None else partial(torch.permute, dims=order)


def _reverse(x: Tensor) -> Tensor:
    return x.permute(*reversed(range(x.ndim)))


def squeeze(node: Node) -> Function:
    """Squeeze."""
    axes = _axes(node)
    if axes is None:
        return _squeeze if node.has(1) and 1 not in node.bound else torch.squeeze
    return partial(torch.squeeze, dim=axes)


def _squeeze(x: Tensor, axes: Tensor) -> Tensor:
    return x.squeeze(tuple(axes.tolist()))


def unsqueeze(node: Node) -> Function:
    """Unsqueeze; the axes count in the result."""
    axes = _axes(node)
    if axes is None:
        return _unsqueeze_at
    return partial(torch.unsqueeze, dim=axes[0]) if len(axes) == 1 else partial(_unsqueeze, axes)


def _unsqueeze_at(x: Tensor, axes: Tensor) -> Tensor:
    return _unsqueeze(axes.tolist(), x)


def _unsqueeze(axes: Sequence[int], x: Tensor) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _axes(node: Node, slot: int = 1) -> tuple[int, ...] | None:
    constants = node.bind(slot)
    return None if constants is None else listed(constants[0])


def expand(node: Node) -> Function:
    """Expand: broadcast the tensor and the shape to each other."""
    constants = node.bind(1)
    if constants is None:
        return _expand_to
    return partial(_expand, listed(constants[0]) or ())


def _expand_to(x: Tensor, shape: Tensor) -> Tensor:
    return _expand(shape.tolist(), x)


def _expand(shape: Sequence[int], x: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape)))  # type: ignore[no-untyped-call]


def shape(node: Node) -> Function:
    """Shape, as a tensor in host memory."""
    return partial(_shape, node.integer("start"), node.integer("end", 1 << 30))


def _shape(start: int, end: int, x: Tensor) -> Tensor | Sizes:
    return sizes_of(x.shape[start:end])


def size(_node: Node) -> Function:
    """Size, as a tensor in host memory."""
    return _size


def _size(x: Tensor) -> Tensor | Sizes:
    return sizes_of([x.numel()]).reshape(())


def identity(_node: Node) -> Function:
    """Identity; also OptionalGetElement, as an optional with a value is that value here."""
    return _identity


def optional(node: Node) -> Function:
    """Optional with a value."""
    if not node.has(0):
        raise Unsupported("Optional without a value")
    return _identity


def _identity(x: Tensor) -> Tensor:
    return x


def dropout(node: Node) -> Function:
    """Dropout in inference mode: nothing is dropped."""
    training = node.constant(2)
    if node.has(2) and (training is None or training.any()):
        raise Unsupported("Dropout in training mode")
    node.bound |= {1, 2}
    return _dropout if node.is_read(1) else _identity


def _dropout(x: Tensor) -> tuple[Tensor, Tensor]:
    return x, torch.ones_like(x, dtype=torch.bool)


def depth_to_space(node: Node) -> Function:
    """DepthToSpace."""
    return partial(_depth_to_space, node.integer("blocksize"), node.text("mode", "DCR"))


def _depth_to_space(block: int, mode: str, x: Tensor) -> Tensor:
    if mode == "CRD":
        return F.pixel_shuffle(x, block)
    count, channels, height, width = x.shape
    y = x.reshape(count, block, block, channels // block**2, height, width)
    y = y.permute(0, 3, 4, 1, 5, 2)
    return y.reshape(count, channels // block**2, height * block, width * block)


def space_to_depth(node: Node) -> Function:
    """SpaceToDepth."""
    return partial(_space_to_depth, node.integer("blocksize"), node.text("mode", "DCR"))


def _space_to_depth(block: int, mode: str, x: Tensor) -> Tensor:
    count, channels, height, width = x.shape
    y = x.reshape(count, channels, height // block, block, width // block, block)
    y = y.permute(0, 3, 5, 1, 2, 4) if mode == "DCR" else y.permute(0, 1, 3, 5, 2, 4)
    return y.reshape(count, channels * block**2, height // block, width // block)


def reverse_sequence(node: Node) -> Function:
    """ReverseSequence: the first elements of each sequence in reverse order."""
    return partial(_reverse_sequence, node.integer("batch_axis", 1), node.integer("time_axis"))


def _reverse_sequence(batch_axis: int, time_axis: int, x: Tensor, lengths: Tensor) -> Tensor:
    if {batch_axis, time_axis} != {0, 1}:
        raise Unsupported("ReverseSequence of other axes than the first two")
    steps = torch.arange(x.shape[time_axis], device=x.device)
    lengths = lengths.to(x.device)
    if time_axis == 0:
        steps, lengths = steps[:, None], lengths[None, :]
    else:
        steps, lengths = steps[None, :], lengths[:, None]
    indices = torch.where(steps < lengths, lengths - 1 - steps, steps)
    indices = indices.reshape(*indices.shape, *(1,) * (x.ndim - 2)).expand(x.shape)
    return x.gather(time_axis, indices)
