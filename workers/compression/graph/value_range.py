"""Bounds the numbers that a graph can compute, by its operators alone (interval arithmetic)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

_DEPTH = 100
"""How many operators are followed back from a value."""


@dataclass(frozen=True)
class Range:
    """The least and the greatest number that a value may hold; by default any."""

    low: float = -math.inf
    high: float = math.inf

    def within(self, other: "Range") -> bool:
        """Return whether all of these numbers are among others."""
        return other.low <= self.low and self.high <= other.high


ANY = Range()
UNIT = Range(0.0, 1.0)

Rule = Callable[[Sequence[Range]], Range]
"""From the ranges of an operator's inputs to that of each of its outputs."""


def value_range(value: ir.Value) -> Range:
    """Return the range of a value; operators without a rule may give any number."""
    return _range(value, {}, _DEPTH)


def _range(value: ir.Value | None, known: dict[ir.Value, Range], depth: int) -> Range:
    if value is None:
        return ANY
    if value not in known:
        known[value] = ANY if depth == 0 else _computed(value, known, depth - 1)
    return known[value]


def _computed(value: ir.Value, known: dict[ir.Value, Range], depth: int) -> Range:
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return _of_constant(tensor)
    node = value.producer()
    if node is None:
        return ANY
    if node.domain == "ai.onnx.ml":
        return UNIT if node.attributes.get_string("post_transform", "NONE") in _TO_UNIT else ANY
    rule = _RULES.get(node.op_type)
    if rule is None or node.domain not in ("", "ai.onnx"):
        return ANY
    found = rule([_range(read, known, depth) for read in node.inputs])
    return found if found.low <= found.high else ANY  # an infinity less an infinity is no number


def _of_constant(tensor: ir.TensorProtocol) -> Range:
    if tensor.dtype == ir.DataType.STRING or not tensor.size:
        return ANY
    array = tensor.numpy()
    low, high = float(array.min()), float(array.max())
    return ANY if math.isnan(low) else Range(low, high)


def _fixed(low: float, high: float) -> Rule:
    return lambda _inputs: Range(low, high)


def _first(inputs: Sequence[Range]) -> Range:
    return inputs[0]


def _rising(function: Callable[[float], float]) -> Rule:
    """Return the rule of a function that never falls."""
    return lambda inputs: Range(function(inputs[0].low), function(inputs[0].high))


def _all(inputs: Sequence[Range]) -> Range:
    return Range(min(r.low for r in inputs), max(r.high for r in inputs))


def _sum(inputs: Sequence[Range]) -> Range:
    return Range(sum(r.low for r in inputs), sum(r.high for r in inputs))


def _negated(numbers: Range) -> Range:
    return Range(-numbers.high, -numbers.low)


def _product(inputs: Sequence[Range]) -> Range:
    one, other = inputs
    corners = [a * b for a in (one.low, one.high) for b in (other.low, other.high)]
    numbers = [0.0 if math.isnan(corner) else corner for corner in corners]  # 0 times no bound
    return Range(min(numbers), max(numbers))


def _reciprocal(inputs: Sequence[Range]) -> Range:
    numbers = inputs[0]
    if numbers.low > 0 or numbers.high < 0:
        return Range(1 / numbers.high, 1 / numbers.low)
    return ANY


def _clip(inputs: Sequence[Range]) -> Range:
    """Return the range between two bounds, either of which may be left out."""
    numbers, low, high = (*inputs, ANY, ANY)[:3]
    return Range(
        min(max(numbers.low, low.low), high.high), max(min(numbers.high, high.high), low.low)
    )


def _exponential(number: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(number))


_TO_UNIT = frozenset({"LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"})
"""What ``post_transform`` of ai.onnx.ml makes probabilities with."""

_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "Softmax", "Hardmax"), _fixed(0.0, 1.0)),
    **dict.fromkeys(("Tanh", "Erf", "Sin", "Cos", "Softsign"), _fixed(-1.0, 1.0)),
    "Softplus": _fixed(0.0, math.inf),
    "LogSoftmax": _fixed(-math.inf, 0.0),
    **dict.fromkeys(
        ("AveragePool", "Cast", "DequantizeLinear", "Expand", "Flatten", "Gather",
         "GatherElements", "GatherND", "GlobalAveragePool", "GlobalMaxPool", "Identity",
         "QuantizeLinear", "ReduceMax", "ReduceMean", "ReduceMin", "Reshape", "Slice", "Split",
         "Squeeze", "Tile", "Transpose", "Unsqueeze"),
        _first,
    ),
    "Relu": _rising(lambda number: max(number, 0.0)),
    "Exp": _rising(_exponential),
    "Neg": lambda inputs: _negated(inputs[0]),
    "Reciprocal": _reciprocal,
    "Clip": _clip,
    "Add": _sum,
    "Sum": _sum,
    "Sub": lambda inputs: _sum([inputs[0], _negated(inputs[1])]),
    "Mul": _product,
    "Div": lambda inputs: _product([inputs[0], _reciprocal(inputs[1:])]),
    "Concat": _all,
    "Mean": _all,
    "Max": lambda inputs: Range(max(r.low for r in inputs), max(r.high for r in inputs)),
    "Min": lambda inputs: Range(min(r.low for r in inputs), min(r.high for r in inputs)),
    "Where": lambda inputs: _all(inputs[1:]),
}  # fmt: skip
"""Operators whose numbers can be bounded."""
