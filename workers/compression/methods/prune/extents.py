"""Follows computed shapes: finds the dimension whose size each element of a shape is.

Exporters write ``Reshape(x, Concat(Shape(y)[0], 12, 64))``. A size that is only copied adapts by
itself when its dimension shrinks. A literal is rewritten. If a size enters arithmetic (such as the
scale of attention), its dimension must not shrink.
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from workers.compression.graph.operators import operand
from workers.compression.methods.prune.trace import constant_of

Extent = list[int | tuple[ir.Value, int] | None]
"""Elements of a vector: a literal, the size of ``(value, axis)``, or something computed."""

_LONGEST = 64

SHAPED = {"Expand": 1, "Reshape": 1, "Resize": 3}
"""Operators that read the shape of their output as an input, and the slot of that input."""


def follow(node: ir.Node, extents: Mapping[ir.Value, Extent], ranks: int | None) -> Extent | None:
    """Return the extent of a node's output; None unless the node only copies sizes and literals.

    Args:
        node: a node of any operator.
        extents: the extents of the values that were computed so far.
        ranks: the number of dimensions of the node's first input; None if it is unknown.
    """
    if node.op_type == "Shape":
        return None if ranks is None else _sizes(node, ranks)
    if node.op_type == "Concat":
        parts = [extent_of(value, extents) for value in node.inputs]
        return None if None in parts else [element for part in parts if part for element in part]
    data = extent_of(operand(node, 0), extents)
    if data is None or not any(isinstance(element, tuple) for element in data):
        return None
    pick = _PICK.get(node.op_type)
    return None if pick is None else pick(node, data)


def _sizes(node: ir.Node, ranks: int) -> Extent | None:
    source = node.inputs[0]
    ends = slice(node.attributes.get_int("start", 0), node.attributes.get_int("end", ranks))
    return None if source is None else [(source, axis) for axis in range(ranks)[ends]]


def _unchanged(_node: ir.Node, data: Extent) -> Extent | None:
    return data


def _gathered(node: ir.Node, data: Extent) -> Extent | None:
    indices = constant_of(operand(node, 1))
    return None if indices is None else [data[int(i)] for i in indices.reshape(-1)]


def _sliced(node: ir.Node, data: Extent) -> Extent | None:
    bounds = [constant_of(value) for value in node.inputs[1:]]
    numbers = [int(bound.reshape(-1)[0]) for bound in bounds if bound is not None]
    if len(numbers) < len(bounds):
        return None
    return data[slice(numbers[0], numbers[1], numbers[3] if len(numbers) > 3 else 1)]


_PICK: dict[str, Callable[[ir.Node, Extent], Extent | None]] = {
    **dict.fromkeys(("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape"), _unchanged),
    "Gather": _gathered,
    "Slice": _sliced,
}


def extent_of(value: ir.Value | None, extents: Mapping[ir.Value, Extent]) -> Extent | None:
    """Return a value's extent; None if the value is no short vector of integers."""
    if value is None:
        return None
    if value in extents:
        return extents[value]
    array = constant_of(value)
    if array is not None and array.dtype.kind == "i" and array.size <= _LONGEST:
        return [int(element) for element in array.reshape(-1)]
    if value.dtype in {ir.DataType.INT64, ir.DataType.INT32} and value.shape is not None:
        size = int(np.prod(value.shape.numpy())) if value.shape.is_static() else _LONGEST + 1
        return [None] * size if size <= _LONGEST else None
    return None
