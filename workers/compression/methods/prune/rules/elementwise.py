"""Operators that keep every element where it is, or reduce or normalise over some axes."""

import onnx_ir as ir

from workers.compression.graph.operators import operand
from workers.compression.methods.prune.trace import Labels, SummedAxis, Trace, constant_of
from workers.compression.methods.prune.units import FIXED, Label


def same_shape(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow an operator whose outputs have the shape of its first input."""
    data = node.inputs[0]
    assert data is not None
    return [trace.of(data)] * len(node.outputs)


def broadcast(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow an operator that combines elements, with NumPy's broadcasting."""
    values = [value for value in node.inputs if value is not None]
    rank = max(len(trace.shape(value)) for value in values)
    labels = []
    for back in range(rank, 0, -1):
        present = [value for value in values if len(trace.shape(value)) >= back]
        size = max(trace.shape(value)[-back] for value in present)
        full = [trace.of(value)[-back] for value in present if trace.shape(value)[-back] == size]
        labels.append(_all_same(full, node, trace) if size > 1 else FIXED)
    return [tuple(labels)]


def _all_same(labels: list[Label], node: ir.Node, trace: Trace) -> Label:
    reason = f"'{node.name}' combines it with what cannot shrink"
    for label in labels[1:]:
        trace.units.unify(labels[0], label, reason)
    return labels[0]


def over_axis(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow an operator whose outputs depend on all elements along ``axis``."""
    data = node.inputs[0]
    assert data is not None
    trace.fix(
        data, f"'{node.name}' looks at all of it at once", [node.attributes.get_int("axis", -1)]
    )
    return [trace.of(data)] * len(node.outputs)


def over_trailing_axes(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow a normalisation over the last axes: removing a channel would change the others."""
    data = node.inputs[0]
    assert data is not None
    rank = len(trace.shape(data))
    axis = node.attributes.get_int("axis", -1) % rank
    reason = f"'{node.name}' normalises over it: without a channel the others would change"
    trace.fix(data, reason, range(axis, rank))
    for value in node.inputs[1:]:
        if value is not None:
            trace.fix(value, reason)
    return [trace.of(data), *[(FIXED,) * rank] * (len(node.outputs) - 1)]


def per_channel(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow a normalisation of single channels, whose parameters are vectors."""
    data = node.inputs[0]
    assert data is not None
    labels = trace.of(data)
    for value in node.inputs[1:]:
        if value is not None:
            trace.units.unify(labels[1], trace.of(value)[0], f"'{node.name}' needs all of it")
    if node.op_type == "InstanceNormalization":
        trace.fix(data, f"'{node.name}' averages over it", range(2, len(labels)))
    return [labels] + [(labels[1],)] * (len(node.outputs) - 1)


def in_groups(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow a GroupNormalization: only whole groups can go, as a part changes the statistics."""
    data = node.inputs[0]
    assert data is not None
    labels = trace.of(data)
    groups, channels = node.attributes.get_int("num_groups", 1), trace.shape(data)[1]
    of_groups, within = trace.split(labels[1], (groups, channels // groups))
    trace.units.fix(within, f"'{node.name}' normalises over it")
    for value in node.inputs[1:]:
        if value is not None:
            full = trace.shape(value)[0] == channels
            label = labels[1] if full else of_groups
            trace.units.unify(label, trace.of(value)[0], f"'{node.name}' needs all of it")
    trace.fix(data, f"'{node.name}' averages over it", range(2, len(labels)))
    return [labels]


def reduce(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow a reduction: its axes are fixed, except for a sum, to which a zero adds nothing."""
    data = node.inputs[0]
    assert data is not None
    rank = len(trace.shape(data))
    axes = _axes(node, rank)
    if axes is None:
        trace.fix(data, f"'{node.name}' reduces over computed axes")
        return [(FIXED,) * len(trace.shape(node.outputs[0]))]
    if node.op_type == "ReduceSum":
        trace.sums += [SummedAxis(node, 0, axis) for axis in sorted(axes)]
    else:
        trace.fix(data, f"'{node.name}' reduces over it", sorted(axes))
    labels = trace.of(data)
    if node.attributes.get_int("keepdims", 1):
        return [tuple(FIXED if axis in axes else labels[axis] for axis in range(rank))]
    return [tuple(labels[axis] for axis in range(rank) if axis not in axes)]


def _axes(node: ir.Node, rank: int) -> set[int] | None:
    """Return the axes of a reduction; None if they are computed."""
    if node.op_type in {"ArgMax", "ArgMin"}:
        return {node.attributes.get_int("axis", 0) % rank}
    axes_input = operand(node, 1)
    if axes_input is None:
        listed = node.attributes.get_ints("axes", ())
        return {axis % rank for axis in listed} or (
            set() if node.attributes.get_int("noop_with_empty_axes", 0) else set(range(rank))
        )
    axes = constant_of(axes_input)
    return None if axes is None else {int(axis) % rank for axis in axes.reshape(-1)}


def pool(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow an operator that slides a window over the spatial axes."""
    data = node.inputs[0]
    assert data is not None
    labels = trace.of(data)
    trace.fix(data, f"'{node.name}' moves a window over it", range(2, len(labels)))
    return [(*labels[:2], *[FIXED] * (len(labels) - 2))] * len(node.outputs)
