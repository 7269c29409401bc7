"""Operators that move elements: reshape, transpose, cut, join, repeat."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from workers.compression.graph.operators import operand
from workers.compression.methods.prune.trace import Labels, Trace, constant_of
from workers.compression.methods.prune.units import FIXED, join, pick


def reshape(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow Reshape, Flatten, Squeeze and Unsqueeze by the shapes on both sides."""
    return [trace.reshape(_data(node), trace.shape(node.outputs[0]))]


def transpose(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow a permutation of the dimensions."""
    labels = trace.of(_data(node))
    order = node.attributes.get_ints("perm", range(len(labels))[::-1])
    return [tuple(labels[axis] for axis in order)]


def concat(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow a concatenation; the other dimensions stay equal."""
    values = [value for value in node.inputs if value is not None]
    labels = [trace.of(value) for value in values]
    rank = len(labels[0])
    joined = node.attributes.get_int("axis", 0) % rank
    for axis in set(range(rank)) - {joined}:
        for other in labels[1:]:
            trace.units.unify(labels[0][axis], other[axis], f"'{node.name}' needs it to stay equal")
    sizes = [trace.shape(value)[joined] for value in values]
    joined_label = join([label[joined] for label in labels], sizes)
    return [tuple(joined_label if axis == joined else labels[0][axis] for axis in range(rank))]


def split(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow a split into consecutive parts."""
    data = _data(node)
    labels = trace.of(data)
    axis = node.attributes.get_int("axis", 0) % len(labels)
    sizes = [trace.shape(value)[axis] for value in node.outputs]
    ends = np.cumsum(sizes).tolist()
    return [
        _with(labels, axis, pick(labels[axis], slice(end - size, end)))
        for size, end in zip(sizes, ends, strict=True)
    ]


def slice_(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow a Slice; dimensions with a step other than 1, or with computed ends, are fixed."""
    data = _data(node)
    labels, shape = list(trace.of(data)), trace.shape(data)
    output_shape = trace.shape(node.outputs[0])
    cuts = slice_ends(node, shape)
    if cuts is None:
        changed = [axis for axis, size in enumerate(shape) if output_shape[axis] != size]
        trace.fix(data, f"'{node.name}' cuts at computed places", changed)
        return [tuple(FIXED if axis in changed else labels[axis] for axis in range(len(shape)))]
    for axis, (start, end, step) in cuts.items():
        if step != 1:
            trace.fix(data, f"'{node.name}' steps through it", [axis])
        labels[axis] = pick(labels[axis], np.arange(start, end, step))
    return [tuple(labels)]


def slice_ends(node: ir.Node, shape: Sequence[int]) -> dict[int, tuple[int, int, int]] | None:
    """Return start, end and step of every axis of a Slice; None if they are computed."""
    values = [operand(node, slot) for slot in range(1, 5)]
    arrays = [constant_of(value) for value in values]
    if any(value is not None and a is None for value, a in zip(values, arrays, strict=True)):
        return None
    starts, ends, axes, steps = ([] if a is None else a.reshape(-1).tolist() for a in arrays)
    named = [int(axis) % len(shape) for axis in axes] or list(range(len(starts)))
    cuts = {}
    for axis, start, end, step in zip(named, starts, ends, steps or [1] * len(starts), strict=True):
        first, last, stride = slice(start, end, step).indices(shape[axis])
        cuts[axis] = (first, last, stride)
    return cuts


def gather(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow a Gather: constant indices select labels, computed ones fix the axis (embeddings)."""
    data, indices = _data(node), node.inputs[1]
    assert indices is not None
    labels = trace.of(data)
    axis = node.attributes.get_int("axis", 0) % len(labels)
    chosen = constant_of(indices)
    if chosen is None:
        trace.fix(data, f"'{node.name}' looks it up by computed indices", [axis])
        middle = trace.of(indices)
    elif chosen.ndim == 1:
        middle = (pick(labels[axis], chosen.astype(np.int64)),)
    else:
        picked = pick(labels[axis], chosen.astype(np.int64).reshape(-1))
        trace.units.fix(picked, f"'{node.name}' picks single ones of it")
        middle = (FIXED,) * chosen.ndim
    return [(*labels[:axis], *middle, *labels[axis + 1 :])]


def expand(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow a broadcast to a shape."""
    data = _data(node)
    output_shape = trace.shape(node.outputs[0])
    input_shape = (1,) * (len(output_shape) - len(trace.shape(data))) + trace.shape(data)
    labels = (FIXED,) * (len(output_shape) - len(trace.of(data))) + trace.of(data)
    return [
        tuple(
            labels[i] if input_shape[i] == output_shape[i] else FIXED
            for i in range(len(output_shape))
        )
    ]


def tile(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow repetitions."""
    data = _data(node)
    input_shape, output_shape = trace.shape(data), trace.shape(node.outputs[0])
    repeats = [new // old for old, new in zip(input_shape, output_shape, strict=True)]
    return [
        tuple(
            tuple(np.tile(layer, count) for layer in label)
            for label, count in zip(trace.of(data), repeats, strict=True)
        )
    ]


def pad(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow a Pad: a dimension that it makes longer is fixed."""
    return _unless_resized(node, trace, "pads it")


def resize(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow a Resize: a dimension that changes its size is fixed."""
    return _unless_resized(node, trace, "interpolates over it")


def _unless_resized(node: ir.Node, trace: Trace, verb: str) -> list[Labels]:
    data = _data(node)
    input_shape, output_shape = trace.shape(data), trace.shape(node.outputs[0])
    changed = [axis for axis, size in enumerate(input_shape) if size != output_shape[axis]]
    trace.fix(data, f"'{node.name}' {verb}", changed)
    labels = trace.of(data)
    return [tuple(FIXED if axis in changed else label for axis, label in enumerate(labels))]


def depth_to_space(node: ir.Node, trace: Trace) -> list[Labels]:
    """Follow channels that become pixels: only whole blocks of channels can be removed."""
    data = _data(node)
    labels, channels = trace.of(data), trace.shape(data)[1]
    area = node.attributes.get_int("blocksize", 1) ** 2
    column_first = node.attributes.get_string("mode", "DCR") == "CRD"
    sizes = (channels // area, area) if column_first else (area, channels // area)
    parts = trace.split(labels[1], sizes)
    channels_label, pixels = (parts[0], parts[1]) if column_first else (parts[1], parts[0])
    trace.units.fix(pixels, f"'{node.name}' makes pixels of it")
    return [(labels[0], channels_label, FIXED, FIXED)]


def _data(node: ir.Node) -> ir.Value:
    data = node.inputs[0]
    assert data is not None
    return data


def _with(labels: Labels, axis: int, label: tuple[np.ndarray, ...]) -> Labels:
    return (*labels[:axis], label, *labels[axis + 1 :])
