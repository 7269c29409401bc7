"""Slices that together cut a tensor into parts: they are fused into one split.

The gradient of a single Slice is a tensor of the full size, filled up with zeros. The gradient of
the split is one concatenation.
"""

from collections import defaultdict
from functools import partial

import onnx_ir as ir
import torch
from torch import Tensor

from workers.compression.executor.fusions.idiom import Fusion
from workers.compression.executor.node import Node
from workers.compression.executor.plan import Function


def parts(graph: ir.Graph) -> dict[ir.Node, Fusion]:
    """Match Slices that cut a value into parts, and replace them by one split.

    1. The Slices have constant limits, steps of one, and a single axis, the same for all.
    2. The size of the axis is known, and the parts cover it without gap or overlap.
    3. The split replaces the first Slice; the other Slices are left out.
    """
    groups: dict[tuple[ir.Value, int], list[tuple[int, int, ir.Node]]] = defaultdict(list)
    for node in graph:
        if node.op_type == "Slice" and (limits := _slice_limits(node)) is not None:
            axis, start, end = limits
            assert node.inputs[0] is not None
            groups[node.inputs[0], axis].append((start, end, node))
    fusions: dict[ir.Node, Fusion] = {}
    for (value, axis), slices in groups.items():
        ordered = sorted(slices, key=lambda limits: limits[:2])
        if len(slices) < 2 or not _covers(value, axis, ordered):
            continue
        sizes = [end - start for start, end, _ in ordered]
        outputs = tuple(node.outputs[0] for _, _, node in ordered)
        first = slices[0][2]
        fusions.update((node, Fusion(_no_function, (), ())) for _, _, node in slices)
        fusions[first] = Fusion(partial(_build, sizes, axis), (value,), outputs)
    return fusions


def _slice_limits(node: ir.Node) -> tuple[int, int, int] | None:
    """Return the axis, start and end of a Slice as non-negative numbers."""
    limits = [_scalar(value) for value in node.inputs[1:]]
    if len(limits) < 3 or None in limits or (len(limits) > 3 and limits[3] != 1):
        return None
    start, end, axis = (int(limit or 0) for limit in limits[:3])
    value = node.inputs[0]
    if value is None or value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None
    axis %= len(value.shape)
    size = value.shape[axis]
    if not isinstance(size, int):
        return None
    first, last, _ = slice(start, end).indices(size)
    return axis, first, last


def _scalar(value: ir.Value | None) -> int | None:
    tensor = value.const_value if value is not None and not value.is_graph_input() else None
    return int(tensor.numpy().reshape(())) if tensor is not None and tensor.size == 1 else None


def _covers(value: ir.Value, axis: int, slices: list[tuple[int, int, ir.Node]]) -> bool:
    position = 0
    for start, end, _ in slices:
        if start != position or end <= start:
            return False
        position = end
    return value.shape is not None and position == value.shape[axis]


def _build(sizes: list[int], axis: int, _node: Node) -> Function:
    return partial(_split, sizes, axis)


def _split(sizes: list[int], axis: int, x: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.split(x, sizes, axis))


def _no_function(_node: Node) -> Function:
    raise AssertionError("the split computes this part: it has no function")
