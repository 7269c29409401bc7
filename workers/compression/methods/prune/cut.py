"""Cuts units out of a graph: constants shrink, and the sizes that nodes hold are adapted."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from workers.compression.graph.editor import Editor, constant
from workers.compression.graph.inference import infer
from workers.compression.graph.operators import operand
from workers.compression.methods.prune.extents import SHAPED
from workers.compression.methods.prune.groups import Analysis, Removed
from workers.compression.methods.prune.rules.layout import slice_ends
from workers.compression.methods.prune.trace import constant_of


class Cut:
    """A cut: the graph to edit, and the sizes of its values before and after."""

    def __init__(self, model: ir.Model, analysis: Analysis, removed: Removed) -> None:
        self.model, self.analysis, self.removed = model, analysis, removed
        self.editor = Editor(model)

    def kept(self, value: ir.Value, axis: int) -> np.ndarray:
        """Return the indices of a dimension that are kept."""
        kept = self.analysis.kept(str(value.name), axis, self.removed)
        return np.arange(self.old_shape(value)[axis]) if kept is None else np.flatnonzero(kept)

    def old_shape(self, value: ir.Value) -> tuple[int, ...]:
        """Return a value's shape before the cut."""
        return self.analysis.shapes[str(value.name)]

    def new_shape(self, value: ir.Value) -> tuple[int, ...]:
        """Return a value's shape after the cut."""
        sizes = range(len(self.old_shape(value)))
        return tuple(len(self.kept(value, axis)) for axis in sizes)

    def shrinks(self, value: ir.Value | None) -> bool:
        """Return whether any of a value's dimensions gets smaller."""
        if value is None or str(value.name) not in self.analysis.rows:
            return False
        return self.new_shape(value) != self.old_shape(value)

    def replace(self, node: ir.Node, slot: int, array: np.ndarray) -> None:
        """Replace a node's constant input."""
        old = operand(node, slot)
        name = str(old.name) if old is not None and old.name else f"{node.name}_{slot}"
        value = self.editor.constant(f"{name}_cut", array)
        if slot >= len(node.inputs):
            node.resize_inputs(slot + 1)
        node.replace_input_with(slot, value)


def cut(model: ir.Model, analysis: Analysis, removed: Removed) -> ir.Model:
    """Remove units from a graph.

    Args:
        model: a copy of the graph that was analysed; changed in place.
        analysis: the coupled units of the graph.
        removed: the units to remove.

    Returns:
        The model.
    """
    work = Cut(model, analysis, removed)
    for node in model.graph:
        adapt = _ADAPT.get(node.op_type)
        if adapt is not None and any(work.shrinks(v) for v in (*node.inputs, *node.outputs)):
            adapt(node, work)
    for value in list(model.graph.initializers.values()):
        if str(value.name) in analysis.rows:
            _shrink(value, work)
    work.editor.remove_unused()
    infer(model)
    return model


def _shrink(value: ir.Value, work: Cut) -> None:
    if not work.shrinks(value):
        return
    array = constant(value)
    for axis in range(array.ndim):
        array = array.take(work.kept(value, axis), axis=axis)
    tensor = ir.Tensor(np.ascontiguousarray(array), name=value.name)
    value.const_value, value.shape = tensor, ir.Shape(array.shape)


def _groups(node: ir.Node, work: Cut) -> None:
    """Adapt a convolution's number of groups."""
    data, weight = node.inputs[0], node.inputs[1]
    groups = node.attributes.get_int("group", 1)
    if groups == 1 or data is None or weight is None:
        return
    if node.op_type == "Conv":
        count = work.new_shape(data)[1] // work.new_shape(weight)[1]
    else:
        count = work.new_shape(node.outputs[0])[1] // work.new_shape(weight)[1]
    node.attributes["group"] = ir.AttrInt64("group", count)


def _normalisation_groups(node: ir.Node, work: Cut) -> None:
    data = node.inputs[0]
    assert data is not None
    groups = node.attributes.get_int("num_groups", 1)
    count = groups * work.new_shape(data)[1] // work.old_shape(data)[1]
    node.attributes["num_groups"] = ir.AttrInt64("num_groups", count)


def _shape(node: ir.Node, work: Cut) -> None:
    """Rewrite the literals in a shape; computed sizes adapt by themselves."""
    slot = SHAPED[node.op_type]
    shape, data = operand(node, slot), node.inputs[0]
    assert data is not None
    if shape is None:
        return
    old, new = work.old_shape(node.outputs[0]), work.new_shape(node.outputs[0])
    constant_shape = constant_of(shape)
    literals = (
        constant_shape.reshape(-1).tolist()
        if constant_shape is not None
        else work.analysis.extents[str(shape.name)]
    )
    target = list(literals)
    for axis, literal in enumerate(literals):
        copied = node.op_type == "Reshape" and literal == 0 and old[axis] != 0
        if copied and work.new_shape(data)[axis] == new[axis]:
            continue
        if copied or (literal is not None and literal == old[axis]):
            target[axis] = new[axis]
    if target == list(literals):
        return
    if constant_shape is not None:
        work.replace(node, slot, np.array(target, np.int64))
        return
    changed = np.array([a != b for a, b in zip(target, literals, strict=True)])
    fill = np.array([n if c else 0 for n, c in zip(target, changed, strict=True)], np.int64)
    name = f"{shape.name}_cut"
    chosen = work.editor.node(
        "Where",
        [work.editor.constant(f"{name}_where", changed), work.editor.constant(name, fill), shape],
        name,
    )
    work.editor.graph.insert_before(node, chosen)
    node.replace_input_with(slot, chosen.outputs[0])


def _split(node: ir.Node, work: Cut) -> None:
    rank = len(work.old_shape(node.outputs[0]))
    axis = node.attributes.get_int("axis", 0) % rank
    sizes = [work.new_shape(value)[axis] for value in node.outputs]
    node.attributes.pop("num_outputs", None)
    work.replace(node, 1, np.array(sizes, np.int64))


def _slice(node: ir.Node, work: Cut) -> None:
    data = node.inputs[0]
    assert data is not None
    cuts = slice_ends(node, work.old_shape(data))
    if cuts is None or not any(len(work.kept(data, a)) < work.old_shape(data)[a] for a in cuts):
        return
    limits = [constant_of(operand(node, slot)) for slot in (1, 2)]
    starts, ends = ([] if g is None else g.reshape(-1).tolist() for g in limits)
    for index, (axis, (start, end, _)) in enumerate(cuts.items()):
        kept = work.kept(data, axis)
        if len(kept) < work.old_shape(data)[axis]:
            starts[index] = int(np.searchsorted(kept, start))
            ends[index] = int(np.searchsorted(kept, end))
    work.replace(node, 1, np.array(starts, np.int64))
    work.replace(node, 2, np.array(ends, np.int64))


def _gather(node: ir.Node, work: Cut) -> None:
    data, constant_indices = node.inputs[0], constant_of(operand(node, 1))
    assert data is not None
    axis = node.attributes.get_int("axis", 0) % len(work.old_shape(data))
    kept = work.kept(data, axis)
    if constant_indices is None or len(kept) == work.old_shape(data)[axis]:
        return
    indices = constant_indices.astype(np.int64)
    chosen = np.where(indices < 0, indices + work.old_shape(data)[axis], indices)
    if chosen.ndim == 1:
        chosen = chosen[np.isin(chosen, kept)]
    work.replace(node, 1, np.searchsorted(kept, chosen).astype(np.int64))


_ADAPT: dict[str, Callable[[ir.Node, Cut], None]] = {
    "Conv": _groups,
    "ConvTranspose": _groups,
    "Expand": _shape,
    "Gather": _gather,
    "GroupNormalization": _normalisation_groups,
    "Reshape": _shape,
    "Resize": _shape,
    "Slice": _slice,
    "Split": _split,
}
"""The operators that hold sizes, and the functions that adapt them."""
