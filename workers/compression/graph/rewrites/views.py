"""Remove copies that read all elements of a tensor in order."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

_LARGEST = 1 << 20
"""Elements that a row of computed indices may have."""

_Dim = int | ir.SymbolicDim


def remove_views(model: ir.Model) -> int:
    """Let those who read such a copy read what it is a copy of.

    torch writes a view by strides as a Gather from the flattened tensor, whose indices it computes
    from the number of samples. A network that is exported with its channels last in memory has one
    behind each average over all pixels, and there it changes nothing.

    1. Constant indices count up, in the shape of what is read.
    2. Computed ones do so in each row, and there are as many rows: both sizes have one name.
    3. Sizes are those that the file states: what comes behind such a Gather cannot be inferred.

    Left alone: a view of another order or shape, and one that makes a graph's output.
    """
    flat = [node for node in model.graph if _flattened(node) is not None]
    computed, removed = _computed(model.graph) if flat else {}, 0
    for node in flat:
        source, output = _flattened(node), node.outputs[0]
        if source is None or output.is_graph_output():
            continue
        if _count_up(node.inputs[1], source.shape, computed):
            output.replace_all_uses_with(source)
            model.graph.remove(node, safe=True)
            removed += 1
    return removed


def _flattened(node: ir.Node) -> ir.Value | None:
    """Return what a Gather reads as one row, None if it reads anything else."""
    if node.op_type != "Gather" or node.domain != "" or node.attributes.get_int("axis", 0) != 0:
        return None
    row = node.inputs[0].producer() if node.inputs[0] is not None else None
    if row is None or (row.op_type, row.domain) != ("Reshape", ""):
        return None
    if len(row.inputs) != 2 or not _is(row.inputs[1], [-1]):
        return None
    return row.inputs[0]


@dataclass(frozen=True)
class _Rows:
    """Numbers of which each row is the row before it and a step."""

    first: NDArray[Any]
    step: NDArray[Any]
    count: _Dim


_Computed = Mapping[ir.Value, _Rows]


def _count_up(indices: ir.Value | None, shape: ir.Shape | None, computed: _Computed) -> bool:
    """Return whether indices are those of all elements of a shape, in order."""
    if indices is None or shape is None or len(shape) == 0:
        return False
    inner = tuple(size for size in shape[1:] if isinstance(size, int))
    if len(inner) != len(shape) - 1:
        return False
    constant = _array(indices)
    if constant is not None:
        as_read = shape.is_static() and constant.shape == shape.numpy()
        return as_read and np.array_equal(constant.ravel(), np.arange(constant.size))
    rows = computed.get(indices)
    if rows is None or rows.count != shape[0] or rows.first.shape != inner:
        return False
    counted = np.arange(prod(inner)).reshape(inner)
    by_row = rows.count == 1 or bool((rows.step == counted.size).all())
    return by_row and np.array_equal(rows.first, counted)


def _computed(graph: ir.Graph) -> dict[ir.Value, _Rows]:
    """Return the values that are rows which a graph computes from a number of rows."""
    found = dict[ir.Value, _Rows]()
    for node in graph:
        rows = None if node.domain else _rows(node, found)
        if rows is not None:
            found[node.outputs[0]] = rows
    return found


def _rows(node: ir.Node, known: _Computed) -> _Rows | None:
    match node.op_type:
        case "Range":
            return _range(*node.inputs)
        case "Mul":
            return _scaled(known, *node.inputs)
        case "Add":
            return _sum(*(_known(value, known) for value in node.inputs))
        case "Unsqueeze" if len(node.inputs) == 2:
            return _unsqueezed(known, *node.inputs)
        case _:
            return None


def _known(value: ir.Value | None, known: _Computed) -> _Rows | None:
    """Return the rows that a value is; a constant of one row is the same in all rows."""
    array = _array(value)
    if array is not None and array.ndim and len(array) == 1:
        return _Rows(array[0], np.zeros_like(array[0]), 1)
    return known.get(value) if value is not None else None


def _range(start: ir.Value | None, limit: ir.Value | None, step: ir.Value | None) -> _Rows | None:
    count = _counted(limit)
    if count is None or not _is(start, 0) or not _is(step, 1):
        return None
    return _Rows(np.asarray(0), np.asarray(0 if count == 1 else 1), count)  # one is broadcast


def _scaled(known: _Computed, one: ir.Value | None, other: ir.Value | None) -> _Rows | None:
    for value, scale in ((one, other), (other, one)):
        rows, factor = _known(value, known), _array(scale)
        if rows is not None and factor is not None and factor.ndim == 0:
            return _Rows(rows.first * factor, rows.step * factor, rows.count)
    return None


def _sum(one: _Rows | None, other: _Rows | None) -> _Rows | None:
    if one is None or other is None or one.first.ndim != other.first.ndim:
        return None
    if one.count != other.count and 1 not in (one.count, other.count):
        return None
    if prod(map(max, one.first.shape, other.first.shape)) > _LARGEST:
        return None
    count = other.count if one.count == 1 else one.count
    return _Rows(one.first + other.first, one.step + other.step, count)


def _unsqueezed(known: _Computed, value: ir.Value | None, places: ir.Value | None) -> _Rows | None:
    rows, axes = _known(value, known), _array(places)
    if rows is None or axes is None or (axes < 1).any():
        return None
    within = tuple((axes.ravel() - 1).tolist())
    return _Rows(np.expand_dims(rows.first, within), np.expand_dims(rows.step, within), rows.count)


def _counted(size: ir.Value | None) -> _Dim | None:
    """Return the dimension that a scalar is the size of, None if it is not known."""
    node = size.producer() if size is not None else None
    shape = node.inputs[0].producer() if node is not None and node.inputs[0] is not None else None
    if node is None or shape is None or shape.op_type != "Shape" or shape.inputs[0] is None:
        return None
    dims = shape.inputs[0].shape
    if dims is None:
        return None
    start, end = shape.attributes.get_int("start", 0), shape.attributes.get_int("end", len(dims))
    read = dims[start:end]
    is_first = node.op_type == "Squeeze" and len(read) == 1
    if not read or not (is_first or (node.op_type == "Gather" and _is(node.inputs[1], 0))):
        return None
    return read[0] if isinstance(read[0], int) or read[0].value else None


def _is(value: ir.Value | None, wanted: int | list[int]) -> bool:
    array = _array(value)
    return array is not None and np.array_equal(array, wanted)


def _array(value: ir.Value | None) -> NDArray[Any] | None:
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()
