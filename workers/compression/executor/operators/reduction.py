"""Reductions, and sums and orders along an axis."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from workers.compression.executor.node import Node, listed
from workers.compression.executor.plan import Function


def reduce(function: Function) -> Callable[[Node], Function]:
    """Return the builder of a reduction ``function(x, axes, keepdim)``."""

    def builder(node: Node) -> Function:
        keep, noop = bool(node.integer("keepdims", 1)), bool(node.integer("noop_with_empty_axes"))
        if (taken := node.take(1)) is None:
            return partial(_reduce_at, function, keep, noop)
        if axes := listed(taken[0]):
            return partial(function, dim=axes, keepdim=keep)
        return partial(_reduce, function, axes, keep, noop)

    return builder


def _reduce_at(function: Function, keep: bool, noop: bool, x: Tensor, axes: Tensor) -> Tensor:
    return _reduce(function, axes.tolist(), keep, noop, x)


def _reduce(
    function: Function, axes: Sequence[int] | None, keep: bool, noop: bool, x: Tensor
) -> Tensor:
    """Reduce; no axes mean all, or none with ``noop``: then only the element's formula is left."""
    if not axes:
        axes = () if noop else tuple(range(x.ndim))
    if not axes:
        y: Tensor = function(x.unsqueeze(0), dim=(0,), keepdim=False)
        return y
    reduced: Tensor = function(x, dim=tuple(axes), keepdim=keep)
    return reduced


def total(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Sum in the tensor's own type."""
    return x.sum(tuple(dim), keepdim=keepdim, dtype=x.dtype)


def average(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Mean, of integers towards zero."""
    if x.is_floating_point():
        return x.mean(tuple(dim), keepdim=keepdim)
    return x.double().mean(tuple(dim), keepdim=keepdim).to(x.dtype)


def product(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Product over several axes."""
    for axis in sorted((each % max(x.ndim, 1) for each in dim), reverse=True):
        x = x.prod(axis, keepdim=keepdim, dtype=x.dtype)
    return x


def largest(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Maximum; of nothing the lowest value."""
    return _extreme(x, dim, keepdim, low=True)


def smallest(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Minimum; of nothing the highest value."""
    return _extreme(x, dim, keepdim, low=False)


def _extreme(x: Tensor, dim: Sequence[int], keepdim: bool, *, low: bool) -> Tensor:
    if x.numel() == 0:
        shape = x.sum(tuple(dim), keepdim=keepdim).shape
        return torch.full(shape, _limit(x.dtype, low=low), dtype=x.dtype, device=x.device)
    return (torch.amax if low else torch.amin)(x, tuple(dim), keepdim)


def _limit(dtype: torch.dtype, *, low: bool) -> float:
    if dtype.is_floating_point:
        return -torch.inf if low else torch.inf
    if dtype == torch.bool:
        return not low
    return torch.iinfo(dtype).min if low else torch.iinfo(dtype).max


def norm1(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Sum of absolute values."""
    return total(x.abs(), dim, keepdim)


def sum_square(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Sum of squares."""
    return total(x * x, dim, keepdim)


def norm2(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Euclidean norm."""
    squares = sum_square(x, dim, keepdim)
    return squares.sqrt() if x.is_floating_point() else squares.double().sqrt().to(x.dtype)


def log_sum(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Logarithm of the sum."""
    return total(x, dim, keepdim).log().to(x.dtype)


def log_sum_exp(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Logarithm of the sum of exponentials."""
    return torch.logsumexp(x, tuple(dim), keepdim).to(x.dtype)


def arg(function: Callable[..., Tensor]) -> Callable[[Node], Function]:
    """Return the builder of ArgMax or ArgMin."""

    def builder(node: Node) -> Function:
        last = bool(node.integer("select_last_index"))
        return partial(
            _arg, function, node.integer("axis"), bool(node.integer("keepdims", 1)), last
        )

    return builder


def _arg(function: Callable[..., Tensor], axis: int, keep: bool, last: bool, x: Tensor) -> Tensor:
    if not last:
        return function(x, axis, keepdim=keep)
    return x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=keep)


def cumulative(function: Callable[..., Tensor], neutral: int) -> Callable[[Node], Function]:
    """Return the builder of CumSum or CumProd."""

    def builder(node: Node) -> Function:
        node.sizes.add(1)
        return partial(
            _cumulative,
            function,
            neutral,
            bool(node.integer("exclusive")),
            bool(node.integer("reverse")),
        )

    return builder


def _cumulative(
    function: Callable[..., Tensor],
    neutral: int,
    exclusive: bool,
    reverse: bool,
    x: Tensor,
    axis: Tensor,
) -> Tensor:
    at = int(axis) % x.ndim
    y = x.flip(at) if reverse else x
    if exclusive:
        first = torch.full_like(y.narrow(at, 0, 1), neutral)
        y = torch.cat([first, y.narrow(at, 0, y.shape[at] - 1)], at)
    y = function(y, at, dtype=x.dtype)
    return y.flip(at) if reverse else y


def top_k(node: Node) -> Function:
    """TopK: values and places."""
    node.sizes.add(1)
    return partial(
        _top_k,
        node.integer("axis", -1),
        bool(node.integer("largest", 1)),
        bool(node.integer("sorted", 1)),
    )


def _top_k(
    axis: int, large: bool, in_order: bool, x: Tensor, count: Tensor
) -> tuple[Tensor, Tensor]:
    """A stable sort: of equal values the one with the lower place comes first, as in ONNX."""
    del in_order
    values, places = x.sort(dim=axis, descending=large, stable=True)
    number = int(count)
    return values.narrow(axis, 0, number), places.narrow(axis, 0, number)
