"""What a graph says of its integers: an input that chooses rows of a table counts them."""

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from workers.compression.graph.operators import operand
from workers.compression.graph.shapes import inputs_of

_CARRIES = frozenset({
    "Cast", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze",
})  # fmt: skip
"""Operators that hand on values that they read."""
_CHOOSE = {
    ("Gather", 1): 0, ("OneHot", 0): 1,
    ("EmbedLayerNormalization", 0): 2, ("EmbedLayerNormalization", 1): 4,
    ("EmbedLayerNormalization", 8): 3,
}  # fmt: skip
"""Operators with a table, each with the input that chooses among its rows, and the table's."""
_INDEXED = frozenset({"Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND"})
_UNPACKS = frozenset({"Cast", "DequantizeLinear", "Mul"})
_MASK = 2
"""Masks and types of tokens are zeros and ones."""


def integer_ends(model: ir.Model) -> dict[str, int]:
    """Return what the integers of inputs are below, by input; those that the graph tells.

    Those that choose rows are below the number of rows. Beside them, integers with an axis of
    samples and another one that choose nothing are masks, or types that are told in zeros and ones.
    Bytes are neither: they are pictures.
    """
    integers = [each for each in inputs_of(model) if each.dtype and each.dtype.is_integer()]
    ends = {str(value.name): count for value in integers if (count := _rows(value)) is not None}
    if not ends:
        return {}
    masks = (each for each in integers if _may_be_mask(each) and not _chooses(each))
    return ends | dict.fromkeys((str(mask.name) for mask in masks), _MASK)


def carried(value: ir.Value) -> Iterator[ir.Value]:
    """Yield a value, and values that hold its numbers, or some of them."""
    waiting, seen = [value], set[ir.Value]()
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        yield each
        readers = (node for node, slot in each.uses() if node.op_type in _CARRIES and slot == 0)
        waiting += [output for node in readers for output in node.outputs]


def choosers(value: ir.Value) -> Iterator[tuple[ir.Node, ir.Value]]:
    """Yield the nodes in which a value chooses rows of a table, with the table.

    A OneHot has the number of its classes in place of a table.
    """
    for each in carried(value):
        for node, slot in each.uses():
            place = _CHOOSE.get((node.op_type, slot))
            table = operand(node, place) if place is not None else None
            if table is not None:
                yield node, table


def _rows(value: ir.Value) -> int | None:
    """Return how many rows a value may choose among; None where it chooses none."""
    counts = []
    for node, table in choosers(value):
        if node.op_type == "OneHot":
            depth = ir.convenience.get_const_tensor(table)
            if depth is not None and depth.size == 1:
                counts.append(int(depth.numpy().reshape(())))
            continue
        shape, axis = _shape(table), node.attributes.get_int("axis", 0)
        if -len(shape) <= axis < len(shape) and isinstance(size := shape[axis], int):
            counts.append(size)
    return max(min(counts), 1) if counts else None


def _shape(table: ir.Value | None) -> Sequence[object]:
    """Return the shape of a table; one that is stored in few bits is floats of the same shape."""
    while table is not None:
        constant = ir.convenience.get_const_tensor(table)
        if (shape := table.shape if constant is None else constant.shape) is not None:
            return list(shape)
        made = table.producer()
        table = made.inputs[0] if made is not None and made.op_type in _UNPACKS else None
    return ()


def _may_be_mask(value: ir.Value) -> bool:
    return len(value.shape or ()) > 1 and value.dtype != ir.DataType.UINT8


def _chooses(value: ir.Value) -> bool:
    uses = (use for each in carried(value) for use in each.uses())
    return any((use.node.op_type in _INDEXED and use.idx == 1) or
               (use.node.op_type, use.idx) in _CHOOSE for use in uses)  # fmt: skip
