"""Cut units out of a graph: constants get smaller, and what nodes know of sizes follows."""

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
    """The sizes before and after, and the graph to edit."""

    def __init__(self, model: ir.Model, analysis: Analysis, removed: Removed) -> None:
        self.model, self.analysis, self.removed = model, analysis, removed
        self.editor = Editor(model)

    def kept(self, value: ir.Value, axis: int) -> np.ndarray:
        """Return the indices of a dimension that stay."""
        kept = self.analysis.kept(str(value.name), axis, self.removed)
        return np.arange(self.before(value)[axis]) if kept is None else np.flatnonzero(kept)

    def before(self, value: ir.Value) -> tuple[int, ...]:
        """Return a value's shape before the cut."""
        return self.analysis.shapes[str(value.name)]

    def after(self, value: ir.Value) -> tuple[int, ...]:
        """Return a value's shape after the cut."""
        sizes = range(len(self.before(value)))
        return tuple(len(self.kept(value, axis)) for axis in sizes)

    def shrinks(self, value: ir.Value | None) -> bool:
        """Return whether any of a value's dimensions gets smaller."""
        if value is None or str(value.name) not in self.analysis.rows:
            return False
        return self.after(value) != self.before(value)

    def replace(self, node: ir.Node, slot: int, array: np.ndarray) -> None:
        """Give a node another constant."""
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
        analysis: what hangs together.
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
    """Count a convolution's groups anew."""
    data, weight = node.inputs[0], node.inputs[1]
    groups = node.attributes.get_int("group", 1)
    if groups == 1 or data is None or weight is None:
        return
    if node.op_type == "Conv":
        count = work.after(data)[1] // work.after(weight)[1]
    else:
        count = work.after(node.outputs[0])[1] // work.after(weight)[1]
    node.attributes["group"] = ir.AttrInt64("group", count)


def _normalisation_groups(node: ir.Node, work: Cut) -> None:
    data = node.inputs[0]
    assert data is not None
    groups = node.attributes.get_int("num_groups", 1)
    count = groups * work.after(data)[1] // work.before(data)[1]
    node.attributes["num_groups"] = ir.AttrInt64("num_groups", count)


def _shape(node: ir.Node, work: Cut) -> None:
    """Rewrite the literals in a shape; sizes that are computed follow by themselves."""
    slot = SHAPED[node.op_type]
    shape, data = operand(node, slot), node.inputs[0]
    assert data is not None
    if shape is None:
        return
    before, after = work.before(node.outputs[0]), work.after(node.outputs[0])
    given = constant_of(shape)
    literals = (
        given.reshape(-1).tolist() if given is not None else work.analysis.extents[str(shape.name)]
    )
    target = list(literals)
    for axis, literal in enumerate(literals):
        copied = node.op_type == "Reshape" and literal == 0 and before[axis] != 0
        if copied and work.after(data)[axis] == after[axis]:
            continue
        if copied or (literal is not None and literal == before[axis]):
            target[axis] = after[axis]
    if target == list(literals):
        return
    if given is not None:
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
    rank = len(work.before(node.outputs[0]))
    axis = node.attributes.get_int("axis", 0) % rank
    sizes = [work.after(value)[axis] for value in node.outputs]
    node.attributes.pop("num_outputs", None)
    work.replace(node, 1, np.array(sizes, np.int64))


def _slice(node: ir.Node, work: Cut) -> None:
    data = node.inputs[0]
    assert data is not None
    cuts = slice_ends(node, work.before(data))
    if cuts is None or not any(len(work.kept(data, a)) < work.before(data)[a] for a in cuts):
        return
    given = [constant_of(operand(node, slot)) for slot in (1, 2)]
    starts, ends = ([] if g is None else g.reshape(-1).tolist() for g in given)
    for place, (axis, (start, end, _)) in enumerate(cuts.items()):
        kept = work.kept(data, axis)
        if len(kept) < work.before(data)[axis]:
            starts[place] = int(np.searchsorted(kept, start))
            ends[place] = int(np.searchsorted(kept, end))
    work.replace(node, 1, np.array(starts, np.int64))
    work.replace(node, 2, np.array(ends, np.int64))


def _gather(node: ir.Node, work: Cut) -> None:
    data, constant_indices = node.inputs[0], constant_of(operand(node, 1))
    assert data is not None
    axis = node.attributes.get_int("axis", 0) % len(work.before(data))
    kept = work.kept(data, axis)
    if constant_indices is None or len(kept) == work.before(data)[axis]:
        return
    indices = constant_indices.astype(np.int64)
    chosen = np.where(indices < 0, indices + work.before(data)[axis], indices)
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
"""Operators that hold sizes of their own."""
