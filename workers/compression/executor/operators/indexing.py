"""Operators that pick elements by place, or put them there."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.node import Node
from workers.compression.executor.plan import Function


def gather(node: Node) -> Function:
    """Gather along an axis; one constant place is a selection without a copy."""
    axis = node.integer("axis")
    places = node.constant(1)
    if places is not None and places.ndim == 0:
        node.taken.add(1)
        return partial(torch.select, dim=axis, index=int(places))
    return partial(_gather, axis)


def _gather(axis: int, x: Tensor, places: Tensor) -> Tensor:
    axis %= x.ndim
    places = _wrapped(places, x.shape[axis])
    if axis == 0 and x.ndim == 2 and x.is_floating_point():
        return F.embedding(places, x)
    shape = [*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]]
    return x.index_select(axis, places.reshape(-1)).reshape(shape)


def _wrapped(places: Tensor, size: int) -> Tensor:
    """Let negative places count from the end."""
    places = places.to(torch.int64)
    return torch.where(places < 0, places + size, places)


def gather_elements(node: Node) -> Function:
    """GatherElements."""
    return partial(_gather_elements, node.integer("axis"))


def _gather_elements(axis: int, x: Tensor, places: Tensor) -> Tensor:
    return x.gather(axis, _wrapped(places, x.shape[axis]))


def gather_nd(node: Node) -> Function:
    """GatherND."""
    return partial(_gather_nd, node.integer("batch_dims"))


def _gather_nd(batch_dims: int, x: Tensor, places: Tensor) -> Tensor:
    batch = [
        torch.arange(size, device=x.device).reshape(
            [-1 if axis == at else 1 for at in range(places.ndim - 1)]
        )
        for axis, size in enumerate(x.shape[:batch_dims])
    ]
    return x[(*batch, *places.to(torch.int64).unbind(-1))]


def scatter_elements(node: Node) -> Function:
    """ScatterElements."""
    return partial(_scatter_elements, node.integer("axis"), node.text("reduction", "none"))


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter_elements(
    axis: int, reduction: str, x: Tensor, places: Tensor, updates: Tensor
) -> Tensor:
    places = _wrapped(places, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, _REDUCE[reduction], include_self=True)


def scatter_nd(node: Node) -> Function:
    """ScatterND."""
    return partial(_scatter_nd, node.text("reduction", "none"))


def _scatter_nd(reduction: str, x: Tensor, places: Tensor, updates: Tensor) -> Tensor:
    depth = places.shape[-1]
    where = tuple(places.to(torch.int64).unbind(-1))
    if reduction in {"none", "add"}:
        return x.index_put(where, updates, accumulate=reduction == "add")
    flat = torch.zeros(places.shape[:-1], dtype=torch.int64, device=x.device)
    for axis, each in enumerate(where):
        flat = flat * x.shape[axis] + _wrapped(each, x.shape[axis])
    rows = x.reshape(-1, *x.shape[depth:]).reshape(x.shape[:depth].numel(), -1)
    added = updates.reshape(flat.numel(), -1)
    index = flat.reshape(-1, 1).expand_as(added)
    return rows.scatter_reduce(0, index, added, _REDUCE[reduction]).reshape(x.shape)


def one_hot(node: Node) -> Function:
    """OneHot: places out of range have no hot element."""
    taken = node.take(1)
    axis = node.integer("axis", -1)
    if taken is None or taken[0] is None:
        return partial(_one_hot_of, axis)
    return partial(_one_hot, axis, int(taken[0].reshape(-1)[0]))


def _one_hot_of(axis: int, places: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    return _one_hot(axis, int(depth.reshape(-1)[0]), places, values)


def _one_hot(axis: int, depth: int, places: Tensor, values: Tensor) -> Tensor:
    axis %= places.ndim + 1
    classes = torch.arange(depth, device=places.device)
    classes = classes.reshape(-1, *(1,) * (places.ndim - axis))
    places = torch.where(places < 0, places + depth, places)
    return torch.where(places.unsqueeze(axis) == classes, values[1], values[0])


def compress(node: Node) -> Function:
    """Compress: what a condition picks along an axis, or of the flattened tensor."""
    given = node.integer("axis", 1 << 30)
    return partial(_compress, None if given == 1 << 30 else given)


def _compress(axis: int | None, x: Tensor, condition: Tensor) -> Tensor:
    places = condition.nonzero().reshape(-1).to(x.device)
    return x.reshape(-1)[places] if axis is None else x.index_select(axis, places)


def non_zero(_node: Node) -> Function:
    """NonZero: the places, ``[rank, count]``."""
    return _non_zero


def _non_zero(x: Tensor) -> Tensor:
    return x.nonzero().t()


def trilu(node: Node) -> Function:
    """Trilu: the upper or lower triangle, from a diagonal on."""
    upper = bool(node.integer("upper", 1))
    taken = node.take(1)
    if taken is None:
        return partial(_trilu_at, upper)
    diagonal = 0 if taken[0] is None else int(taken[0].reshape(-1)[0])
    return partial(torch.triu if upper else torch.tril, diagonal=diagonal)


def _trilu_at(upper: bool, x: Tensor, diagonal: Tensor) -> Tensor:
    return (torch.triu if upper else torch.tril)(x, int(diagonal))
