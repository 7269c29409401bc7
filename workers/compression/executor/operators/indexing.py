"""Operators that gather elements by index, or scatter them."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.node import Node
from workers.compression.executor.plan import Function
from workers.compression.executor.symbolic import Sizes


def gather(node: Node) -> Function:
    """Gather along an axis; a single constant index is a selection without a copy."""
    axis = node.integer("axis")
    indices = node.constant(1)
    if indices is not None and indices.ndim == 0:
        node.bound.add(1)
        return partial(torch.select, dim=axis, index=int(indices))
    return partial(_gather, axis)


def _gather(axis: int, x: Tensor | Sizes, indices: Tensor) -> Tensor | Sizes:
    if isinstance(x, Sizes):
        return x.take(axis, indices)
    axis %= x.ndim
    indices = _nonnegative(indices.to(x.device), x.shape[axis])
    if axis == 0 and x.ndim == 2 and x.is_floating_point():
        return F.embedding(indices, x)
    shape = [*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]]
    return x.index_select(axis, indices.reshape(-1)).reshape(shape)


def _nonnegative(indices: Tensor, size: int) -> Tensor:
    """Replace negative indices, which count from the end."""
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + size, indices)


def gather_elements(node: Node) -> Function:
    """GatherElements."""
    return partial(_gather_elements, node.integer("axis"))


def _gather_elements(axis: int, x: Tensor, indices: Tensor) -> Tensor:
    return x.gather(axis, _nonnegative(indices.to(x.device), x.shape[axis]))


def gather_nd(node: Node) -> Function:
    """GatherND."""
    return partial(_gather_nd, node.integer("batch_dims"))


def _gather_nd(batch_dims: int, x: Tensor, indices: Tensor) -> Tensor:
    batch_indices = [
        torch.arange(size, device=x.device).reshape(
            [-1 if axis == dimension else 1 for dimension in range(indices.ndim - 1)]
        )
        for axis, size in enumerate(x.shape[:batch_dims])
    ]
    return x[(*batch_indices, *indices.to(x.device).to(torch.int64).unbind(-1))]


def scatter_elements(node: Node) -> Function:
    """ScatterElements."""
    return partial(_scatter_elements, node.integer("axis"), node.text("reduction", "none"))


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter_elements(
    axis: int, reduction: str, x: Tensor, indices: Tensor, updates: Tensor
) -> Tensor:
    indices = _nonnegative(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, indices, updates)
    return x.scatter_reduce(axis, indices, updates, _REDUCE[reduction], include_self=True)


def scatter_nd(node: Node) -> Function:
    """ScatterND."""
    return partial(_scatter_nd, node.text("reduction", "none"))


def _scatter_nd(reduction: str, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    depth = indices.shape[-1]
    per_axis = tuple(indices.to(torch.int64).unbind(-1))
    if reduction in {"none", "add"}:
        return x.index_put(per_axis, updates, accumulate=reduction == "add")
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for axis, axis_indices in enumerate(per_axis):
        flat = flat * x.shape[axis] + _nonnegative(axis_indices, x.shape[axis])
    rows = x.reshape(-1, *x.shape[depth:]).reshape(x.shape[:depth].numel(), -1)
    added = updates.reshape(flat.numel(), -1)
    index = flat.reshape(-1, 1).expand_as(added)
    return rows.scatter_reduce(0, index, added, _REDUCE[reduction]).reshape(x.shape)


def one_hot(node: Node) -> Function:
    """OneHot: an index out of range gives a row without a hot element."""
    constants = node.bind(1)
    axis = node.integer("axis", -1)
    if constants is None or constants[0] is None:
        return partial(_one_hot_of, axis)
    return partial(_one_hot, axis, int(constants[0].reshape(-1)[0]))


def _one_hot_of(axis: int, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    return _one_hot(axis, int(depth.reshape(-1)[0]), indices, values)


def _one_hot(axis: int, depth: int, indices: Tensor, values: Tensor) -> Tensor:
    axis %= indices.ndim + 1
    classes = torch.arange(depth, device=indices.device)
    classes = classes.reshape(-1, *(1,) * (indices.ndim - axis))
    indices = torch.where(indices < 0, indices + depth, indices)
    return torch.where(indices.unsqueeze(axis) == classes, values[1], values[0])


def compress(node: Node) -> Function:
    """Compress: select by a condition along an axis, or in the flattened tensor."""
    axis = node.integer("axis", 1 << 30)
    return partial(_compress, None if axis == 1 << 30 else axis)


def _compress(axis: int | None, x: Tensor, condition: Tensor) -> Tensor:
    indices = condition.nonzero().reshape(-1).to(x.device)
    return x.reshape(-1)[indices] if axis is None else x.index_select(axis, indices)


def non_zero(_node: Node) -> Function:
    """NonZero: the indices, ``[rank, count]``."""
    return _non_zero


def _non_zero(x: Tensor) -> Tensor:
    return x.nonzero().t()


def trilu(node: Node) -> Function:
    """Trilu: the upper or lower triangle, bounded by a diagonal."""
    upper = bool(node.integer("upper", 1))
    constants = node.bind(1)
    if constants is None:
        return partial(_trilu_at, upper)
    diagonal = 0 if constants[0] is None else int(constants[0].reshape(-1)[0])
    return partial(torch.triu if upper else torch.tril, diagonal=diagonal)


def _trilu_at(upper: bool, x: Tensor, diagonal: Tensor) -> Tensor:
    return (torch.triu if upper else torch.tril)(x, int(diagonal))
