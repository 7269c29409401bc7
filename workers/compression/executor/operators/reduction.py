"""Reductions, cumulative sums and sorting along an axis."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from workers.compression.executor.dtypes import WIDE_UNSIGNED
from workers.compression.executor.node import Node, Unsupported, listed
from workers.compression.executor.plan import Function


def reduce(function: Function) -> Callable[[Node], Function]:
    """Return the builder of a reduction ``function(x, axes, keepdim)``."""

    def builder(node: Node) -> Function:
        keep, noop = bool(node.integer("keepdims", 1)), bool(node.integer("noop_with_empty_axes"))
        if (constants := node.bind(1)) is None:
            return partial(_reduce_at, function, keep, noop)
        if axes := listed(constants[0]):
            return partial(function, dim=axes, keepdim=keep)
        return partial(_reduce, function, axes, keep, noop)

    return builder


def _reduce_at(function: Function, keep: bool, noop: bool, x: Tensor, axes: Tensor) -> Tensor:
    return _reduce(function, axes.tolist(), keep, noop, x)


def _reduce(
    function: Function, axes: Sequence[int] | None, keep: bool, noop: bool, x: Tensor
) -> Tensor:
    """Reduce over axes. Without axes, reduce over all; with ``noop``, over each element alone."""
    if not axes:
        axes = () if noop else tuple(range(x.ndim))
    if not axes:
        y: Tensor = function(x.unsqueeze(0), dim=(0,), keepdim=False)
        return y
    reduced: Tensor = function(x, dim=tuple(axes), keepdim=keep)
    return reduced


def total(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Sum, in the tensor's type."""
    return x.sum(tuple(dim), keepdim=keepdim, dtype=x.dtype)


def average(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Mean; that of integers is rounded towards zero."""
    if x.is_floating_point():
        return x.mean(tuple(dim), keepdim=keepdim)
    return x.double().mean(tuple(dim), keepdim=keepdim).to(x.dtype)


def product(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Product over several axes."""
    for axis in sorted((index % max(x.ndim, 1) for index in dim), reverse=True):
        x = x.prod(axis, keepdim=keepdim, dtype=x.dtype)
    return x


def largest(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Maximum; for an empty tensor, the lowest value of the type."""
    return _extreme(x, dim, keepdim, largest=True)


def smallest(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Minimum; for an empty tensor, the highest value of the type."""
    return _extreme(x, dim, keepdim, largest=False)


def _extreme(x: Tensor, dim: Sequence[int], keepdim: bool, *, largest: bool) -> Tensor:
    if x.numel() == 0:
        shape = x.sum(tuple(dim), keepdim=keepdim).shape
        return torch.full(shape, _limit(x.dtype, lowest=largest), dtype=x.dtype, device=x.device)
    return (torch.amax if largest else torch.amin)(x, tuple(dim), keepdim)


def _limit(dtype: torch.dtype, *, lowest: bool) -> float:
    if dtype.is_floating_point:
        return -torch.inf if lowest else torch.inf
    if dtype == torch.bool:
        return not lowest
    return torch.iinfo(dtype).min if lowest else torch.iinfo(dtype).max


def norm1(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Sum of absolute values."""
    return total(x.abs(), dim, keepdim)


def sum_square(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Sum of squares."""
    return total(x * x, dim, keepdim)


def norm2(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    """Euclidean norm."""
    squares = sum_square(x, dim, keepdim)
    return root(squares) if x.is_floating_point() else squares.double().sqrt().to(x.dtype)


def root(x: Tensor, power: int = 2) -> Tensor:
    """Return the root of a sum of powers; where it is 0, so is its gradient, as a norm's is."""
    nothing = x == 0
    return torch.where(nothing, x, torch.where(nothing, torch.ones_like(x), x) ** (1 / power))


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
    dim = int(axis) % x.ndim
    y = x.flip(dim) if reverse else x
    if exclusive:
        first = torch.full_like(y.narrow(dim, 0, 1), neutral)
        y = torch.cat([first, y.narrow(dim, 0, y.shape[dim] - 1)], dim)
    y = function(y, dim, dtype=x.dtype)
    return y.flip(dim) if reverse else y


def top_k(node: Node) -> Function:
    """TopK: values and indices."""
    if node.dtype(0) in WIDE_UNSIGNED:
        raise Unsupported(f"{node.op_type} of {node.dtype(0)}")
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
    """Sort stably: of equal values the one with the lower index comes first, as in ONNX.

    Converters of an exported program know no such sort, and choose among equal values themselves.
    """
    number = int(count)
    if torch.compiler.is_exporting():
        values, indices = x.topk(number, axis, large, in_order)
        return values, indices
    values, indices = x.sort(dim=axis, descending=large, stable=True)
    return values.narrow(axis, 0, number), indices.narrow(axis, 0, number)
