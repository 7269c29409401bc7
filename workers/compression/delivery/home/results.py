"""What became of the constants of a graph, and which of their channels are left."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph import runtime
from workers.compression.methods.quantize import own_grids


def values_of(before: ir.Model, after: ir.Model) -> dict[str, NDArray[Any]]:
    """Return the values that the constants of one graph have in another, by their first names.

    A constant is found where it was read: by the same node, at the same place; or by its name. What
    is stored in integers, or as a codebook, is computed; what was split by channels is joined. One
    that is not there is left out.

    Args:
        before: the graph whose floating-point constants are asked for.
        after: what steps made of it; not changed.
    """
    nodes = {str(node.name): node for node in ir.traversal.RecursiveGraphIterator(after.graph)}
    wanted: dict[str, list[ir.Value]] = {}
    orders: dict[str, NDArray[np.int64]] = {}
    for node in ir.traversal.RecursiveGraphIterator(before.graph):
        name = str(node.name)
        parts = own_grids.parts_of(name, nodes)
        for slot, value in enumerate(node.inputs):
            if value is None or value.const_value is None or str(value.name) in wanted:
                continue
            if value.const_value.dtype != ir.DataType.FLOAT:
                continue
            same = after.graph.initializers.get(str(value.name))
            if reads := _reads(node, slot, parts or [nodes.get(name)]):
                wanted[str(value.name)] = reads
                if parts and (order := own_grids.order_of(name, after)) is not None:
                    orders[str(value.name)] = order
            elif same is not None:
                wanted[str(value.name)] = [same]
    computed = _computed(after, {str(v.name): v for reads in wanted.values() for v in reads})
    found = {}
    for name, reads in wanted.items():
        arrays = [computed[str(read.name)] for read in reads if str(read.name) in computed]
        if len(arrays) == len(reads):
            whole = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
            found[name] = whole[orders[name]] if name in orders else whole
    return found


def _reads(node: ir.Node, slot: int, successors: Sequence[ir.Node | None]) -> list[ir.Value]:
    """Return what the nodes that took a node's place read at a slot; nothing if one does not."""
    reads = [
        same.inputs[slot]
        for same in successors
        if same is not None and same.op_type == node.op_type and slot < len(same.inputs)
    ]
    known = [value for value in reads if value is not None]
    return known if len(known) == len(successors) else []


def _computed(model: ir.Model, wanted: Mapping[str, ir.Value]) -> dict[str, NDArray[Any]]:
    """Return the values that depend on constants alone, computed in one run."""
    plain = {name: v.const_value.numpy() for name, v in wanted.items() if v.const_value is not None}
    rest = {name: value for name, value in wanted.items() if name not in plain}
    needed: dict[ir.Node, None] = {}
    made = {name: value for name, value in rest.items() if _collect(value, needed)}
    if not made:
        return plain
    alone = _cut_out(model, list(needed), list(dict.fromkeys(made.values())))
    outputs = runtime.run(runtime.session_of(alone), {})
    return plain | {name: outputs[str(value.name)] for name, value in made.items()}


def _collect(value: ir.Value, needed: dict[ir.Node, None]) -> bool:
    """Note the nodes that compute a value; False where it does not depend on constants alone."""
    if value.const_value is not None:
        return True
    node = value.producer()
    if node is None or node.attributes.get("body") is not None:
        return False
    if node in needed:
        return True
    if not all(read is None or _collect(read, needed) for read in node.inputs):
        return False
    needed[node] = None
    return True


def _cut_out(model: ir.Model, nodes: list[ir.Node], outputs: list[ir.Value]) -> ir.Model:
    copies: dict[ir.Value, ir.Value] = {}
    constants = []
    made = []
    for node in nodes:
        for value in node.inputs:
            if value is not None and value not in copies:
                copies[value] = ir.Value(
                    name=value.name, const_value=value.const_value, type=value.type,
                    shape=value.shape,
                )  # fmt: skip
                constants.append(copies[value])
        inputs = [None if value is None else copies[value] for value in node.inputs]
        copy = ir.Node(
            node.domain, node.op_type, inputs, list(node.attributes.values()),
            num_outputs=len(node.outputs),
        )  # fmt: skip
        for mine, theirs in zip(copy.outputs, node.outputs, strict=True):
            mine.name, mine.type, mine.shape = theirs.name, theirs.type, theirs.shape
            copies[theirs] = mine
        made.append(copy)
    graph = ir.Graph(
        [], [copies[value] for value in outputs], nodes=made, initializers=constants,
        opset_imports=dict(model.graph.opset_imports), name="constants",
    )  # fmt: skip
    return ir.Model(graph, ir_version=model.ir_version)


def places_left(shape: Sequence[int], axes: Mapping[int, Sequence[int]]) -> NDArray[np.int64]:
    """Return where the elements of a constant are after a cut: -1 for those that are gone."""
    mask = np.ones(shape, np.bool_)
    for axis, indices in axes.items():
        kept = np.zeros(shape[axis], np.bool_)
        kept[list(indices)] = True
        mask &= kept.reshape([-1 if n == axis else 1 for n in range(len(shape))])
    flat = mask.reshape(-1)
    return np.where(flat, np.cumsum(flat) - 1, -1)
