"""Recognise a Gelu that an exporter spelled out."""

import math
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import RewriteRuleClassBase, RewriteRuleSet

from workers.compression.graph.rewrites.idioms import rewrite

_CUBE, _TANH = 0.044715, math.sqrt(2 / math.pi)


def recognise_gelu(model: ir.Model) -> int:
    """Replace the product of ``x``, a half and ``1 + erf(x / sqrt(2))`` by Gelu.

    1. Its approximation by tanh becomes a Gelu that is approximated by tanh.
    2. Factors in any order.

    Left alone: one whose inner values another node reads.
    """
    counts = (rewrite(model, rules, {mark}, {"Mul"}, _REACH) for mark, rules in _RULES.items())
    return sum(counts)


def _erf(op: Any, x: Any) -> Any:
    return op.Erf(x / math.sqrt(2)) + 1.0


def _cubic(op: Any, x: Any) -> Any:
    return op.Tanh((x + op.Pow(x, 3.0) * _CUBE) * _TANH) + 1.0


class _Gelu(RewriteRuleClassBase):  # type: ignore[misc]
    """The product of ``x``, a half and the rest, in one of the orders that exporters use."""

    def __init__(self, order: Callable[[Any, Any], Any], rest: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self._order, self._rest = order, rest

    def pattern(self, op: Any, x: Any) -> Any:
        return self._order(x, self._rest(op, x))

    def rewrite(self, op: Any, x: ir.Value) -> Any:
        return op.Gelu(x, approximate="none" if self._rest is _erf else "tanh")


_ORDERS: tuple[Callable[[Any, Any], Any], ...] = (
    lambda x, rest: x * rest * 0.5,
    lambda x, rest: x * (rest * 0.5),
    lambda x, rest: x * 0.5 * rest,
)

_RULES = {
    name: RewriteRuleSet([_Gelu.rule(order, rest) for order in _ORDERS], commute=True)
    for name, rest in (("Erf", _erf), ("Tanh", _cubic))
}
"""The rules by the characteristic operator."""

_REACH = 3
"""Steps from that operator to the last product: an Add and two Muls."""
