"""Arithmetic, comparisons and logic, element by element with broadcasting."""

from collections.abc import Callable
from functools import partial, reduce

import torch
from torch import Tensor

from workers.compression.executor.dtypes import WIDE_UNSIGNED
from workers.compression.executor.node import Node, Unsupported
from workers.compression.executor.plan import Function


def _refuse_unsigned(node: Node) -> None:
    for slot in range(len(node.inputs)):
        if (kind := node.dtype(slot)) in WIDE_UNSIGNED:
            raise Unsupported(f"{node.op_type} in {kind}")


Binary = Callable[[Tensor, Tensor], Tensor]


def unary(function: Function) -> Callable[[Node], Function]:
    """Return the builder of a unary operator that is a single torch function."""

    def builder(node: Node) -> Function:
        _refuse_unsigned(node)
        return function

    return builder


def binary(function: Function) -> Callable[[Node], Function]:
    """Return the builder of a binary operator; a constant number on the right is bound."""

    def builder(node: Node) -> Function:
        _refuse_unsigned(node)
        number = node.number(1)
        return function if number is None else partial(function, other=number)

    return builder


def commutative(function: Function) -> Callable[[Node], Function]:
    """Return the builder of a commutative operator; a constant number on one side is bound."""

    def builder(node: Node) -> Function:
        _refuse_unsigned(node)
        number = node.number(1)
        if number is None:
            number = node.number(0)
        return function if number is None else partial(function, other=number)

    return builder


def sub(node: Node) -> Function:
    """Sub."""
    _refuse_unsigned(node)
    if (number := node.number(1)) is not None:
        return partial(torch.sub, other=number)
    if (number := node.number(0)) is not None:
        return partial(torch.rsub, other=number)
    return torch.sub


def div(node: Node) -> Function:
    """Div; integers are rounded towards zero."""
    _refuse_unsigned(node)
    kind = node.dtype(0) or node.dtype(1)
    rounding = "trunc" if kind is not None and kind.is_integer() else None
    if rounding is None and (number := node.number(0)) is not None and node.has(1):
        return torch.reciprocal if number == 1 else partial(_number_over, number)
    if (number := node.number(1)) is not None:
        return partial(torch.div, other=number, rounding_mode=rounding)
    return torch.div if kind is not None and rounding is None else partial(_div, rounding)


def _number_over(number: float, x: Tensor) -> Tensor:
    return number / x


def _div(rounding: str | None, a: Tensor, b: Tensor) -> Tensor:
    is_integer = not (a.is_floating_point() or a.is_complex())
    return torch.div(a, b, rounding_mode="trunc" if is_integer else rounding)


def mod(node: Node) -> Function:
    """Mod: the result has the sign of the divisor, or of the dividend with ``fmod``."""
    _refuse_unsigned(node)
    return torch.fmod if node.integer("fmod") else torch.remainder


def power(node: Node) -> Function:
    """Pow: the result has the base's type."""
    kind = node.dtype(0)
    is_integer = kind is None or kind.is_integer()
    if not is_integer and (number := node.number(1)) is not None:
        if number == 2:
            return torch.square
        return torch.sqrt if number == 0.5 else partial(torch.pow, exponent=float(number))
    return _power


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(base, exponent).to(base.dtype)


def bit_shift(node: Node) -> Function:
    """BitShift."""
    shifts_left = node.text("direction") == "LEFT"
    return partial(_bit_shift, shifts_left)


def _bit_shift(shifts_left: bool, x: Tensor, by: Tensor) -> Tensor:
    # unsigned types wider than a byte have no shifts in torch
    function = torch.bitwise_left_shift if shifts_left else torch.bitwise_right_shift
    return function(x.to(torch.int64), by.to(torch.int64)).to(x.dtype)


def variadic(function: Binary) -> Callable[[Node], Function]:
    """Return the builder of an operator on any number of tensors."""

    def builder(node: Node) -> Function:
        _refuse_unsigned(node)
        return function if len(node.inputs) == 2 else partial(_variadic, function)

    return builder


def _variadic(function: Binary, *tensors: Tensor) -> Tensor:
    return reduce(function, tensors)


def mean(_node: Node) -> Function:
    """Mean of any number of tensors."""
    return _mean


def _mean(*tensors: Tensor) -> Tensor:
    return reduce(torch.add, tensors) / len(tensors)


def where(_node: Node) -> Function:
    """Where."""
    return torch.where


def sign(_node: Node) -> Function:
    """Sign."""
    return torch.sign


def is_inf(node: Node) -> Function:
    """IsInf, of either or both signs."""
    negative, positive = node.integer("detect_negative", 1), node.integer("detect_positive", 1)
    return partial(_is_inf, bool(negative), bool(positive))


def _is_inf(detect_negative: bool, detect_positive: bool, x: Tensor) -> Tensor:
    infinite = torch.isinf(x)
    if not detect_negative:
        infinite &= x > 0
    return infinite if detect_positive else infinite & (x < 0)
