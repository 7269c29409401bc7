"""Products with weights: convolutions and matrix products, which read and write channels."""

import onnx_ir as ir

from workers.compression.graph.operators import operand
from workers.compression.methods.prune.trace import Labels, SummedAxis, Trace
from workers.compression.methods.prune.units import FIXED, Label, merge


def conv(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow a convolution, with or without groups.

    With groups, input channel ``(g, k)`` is removed with group ``g``, or with position ``k`` of
    every group. The groups of a depthwise convolution are its channels.
    """
    data, weight = _operands(node)
    labels, kernel = trace.of(data), trace.of(weight)
    groups = node.attributes.get_int("group", 1)
    trace.fix(weight, "it lies within a kernel", range(2, len(kernel)))
    trace.fix(data, f"'{node.name}' moves a window over it", range(2, len(labels)))
    inputs, outputs = trace.shape(data)[1], trace.shape(weight)[0]
    reads = _read_in_groups(labels[1], inputs, groups, kernel[1], node, trace)
    of_groups, _ = trace.split(kernel[0], (groups, outputs // groups))
    trace.units.unify(reads, of_groups, _needs(node))
    _bias(operand(node, 2), kernel[0], node, trace)
    trace.sums.append(SummedAxis(node, 0, 1))
    return [(labels[0], kernel[0], *[FIXED] * (len(labels) - 2))]


def conv_transpose(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow a transposed convolution: its weight is ``[inputs, outputs / groups, …]``."""
    data, weight = _operands(node)
    labels, kernel = trace.of(data), trace.of(weight)
    groups = node.attributes.get_int("group", 1)
    trace.fix(weight, "it lies within a kernel", range(2, len(kernel)))
    trace.fix(data, f"'{node.name}' moves a window over it", range(2, len(labels)))
    trace.units.unify(labels[1], kernel[0], _needs(node))
    of_groups, _ = trace.split(kernel[0], (groups, trace.shape(weight)[0] // groups))
    written = merge([of_groups, kernel[1]], (groups, trace.shape(weight)[1]))
    trace.splits.append(written)
    _bias(operand(node, 2), written, node, trace)
    trace.sums.append(SummedAxis(node, 0, 1))
    return [(labels[0], written, *[FIXED] * (len(labels) - 2))]


def gemm(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow ``A @ B + C``, each operand perhaps transposed."""
    data, weight = _operands(node)
    data_labels, weight_labels = trace.of(data), trace.of(weight)
    transposed = node.attributes.get_int("transA", 0)
    rows, inner = (data_labels[1], data_labels[0]) if transposed else data_labels
    columns, outer = (weight_labels[1], weight_labels[0])
    if node.attributes.get_int("transB", 0):
        columns, outer = outer, columns
    trace.units.unify(inner, outer, _needs(node))
    trace.sums.append(SummedAxis(node, 0, 0 if transposed else 1))
    labels = (rows, columns)
    bias = operand(node, 2)
    if bias is not None:
        for back, label in enumerate(reversed(trace.of(bias)), start=1):
            if trace.shape(bias)[-back] > 1:
                trace.units.unify(labels[-back], label, _needs(node))
    return [labels]


def matmul(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow a product of matrices or of stacks of matrices, whose leading axes are broadcast."""
    data, weight = _operands(node)
    data_labels, weight_labels = trace.of(data), trace.of(weight)
    if min(len(data_labels), len(weight_labels)) < 2:
        for value in (data, weight):
            trace.fix(value, f"'{node.name}' multiplies with a vector")
        return [(FIXED,) * len(trace.shape(node.outputs[0]))]
    trace.units.unify(data_labels[-1], weight_labels[-2], _needs(node))
    trace.sums.append(SummedAxis(node, 0, len(data_labels) - 1))
    front = _broadcast_front(data, weight, node, trace)
    return [(*front, data_labels[-2], weight_labels[-1])]


def _broadcast_front(data: ir.Value, weight: ir.Value, node: ir.Node, trace: Trace) -> list[Label]:
    front = []
    for back in range(max(len(trace.of(data)), len(trace.of(weight))), 2, -1):
        sides = [v for v in (data, weight) if len(trace.of(v)) >= back]
        wide = [trace.of(v)[-back] for v in sides if trace.shape(v)[-back] > 1]
        if len(wide) == 2:
            trace.units.unify(wide[0], wide[1], _needs(node))
        front.append(wide[0] if wide else FIXED)
    return front


def _read_in_groups(
    label: Label, size: int, groups: int, kernel: Label, node: ir.Node, trace: Trace
) -> Label:
    """Couple a convolution's input channels with its weight; return the label of the groups."""
    of_groups, within = trace.split(label, (groups, size // groups))
    if size > groups:
        trace.units.unify(within, kernel, _needs(node))
    return of_groups


def _bias(bias: ir.Value | None, label: Label, node: ir.Node, trace: Trace) -> None:
    if bias is not None:
        trace.units.unify(label, trace.of(bias)[0], _needs(node))


def _operands(node: ir.Node) -> tuple[ir.Value, ir.Value]:
    data, weight = node.inputs[0], node.inputs[1]
    assert data is not None
    assert weight is not None
    return data, weight


def _needs(node: ir.Node) -> str:
    return f"'{node.name}' needs all of it"
