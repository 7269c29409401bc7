"""A tensor that is cut into parts by one Slice each.

Each Slice alone would fill a gradient of the whole tensor with zeros; together they are one split,
whose gradient is one concatenation.
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
    """Return a split for the first of the Slices that cut a value into all of its parts.

    1. The Slices have constant limits, one axis, the same for all, and steps of one.
    2. The size of the axis is known, and the parts cover it without gap or overlap.
    3. The other Slices become nothing.
    """
    groups: dict[tuple[ir.Value, int], list[tuple[int, int, ir.Node]]] = defaultdict(list)
    for node in graph:
        if node.op_type == "Slice" and (cut := _cut(node)) is not None:
            axis, start, end = cut
            assert node.inputs[0] is not None
            groups[node.inputs[0], axis].append((start, end, node))
    found: dict[ir.Node, Fusion] = {}
    for (value, axis), cuts in groups.items():
        ordered = sorted(cuts, key=lambda cut: cut[:2])
        if len(cuts) < 2 or not _covers(value, axis, ordered):
            continue
        sizes = [end - start for start, end, _ in ordered]
        outputs = tuple(node.outputs[0] for _, _, node in ordered)
        first = cuts[0][2]
        found.update((node, Fusion(_nothing, (), ())) for _, _, node in cuts)
        found[first] = Fusion(partial(_build, sizes, axis), (value,), outputs)
    return found


def _cut(node: ir.Node) -> tuple[int, int, int] | None:
    """Return axis, start and end of a Slice, counted from the front."""
    limits = [_one(value) for value in node.inputs[1:]]
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


def _one(value: ir.Value | None) -> int | None:
    tensor = value.const_value if value is not None and not value.is_graph_input() else None
    return int(tensor.numpy().reshape(())) if tensor is not None and tensor.size == 1 else None


def _covers(value: ir.Value, axis: int, cuts: list[tuple[int, int, ir.Node]]) -> bool:
    at = 0
    for start, end, _ in cuts:
        if start != at or end <= start:
            return False
        at = end
    return value.shape is not None and at == value.shape[axis]


def _build(sizes: list[int], axis: int, _node: Node) -> Function:
    return partial(_split, sizes, axis)


def _split(sizes: list[int], axis: int, x: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.split(x, sizes, axis))


def _nothing(_node: Node) -> Function:
    raise AssertionError("a part that another step makes is not built")
