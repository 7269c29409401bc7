"""Unroll loops that run a small, known number of times."""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from workers.compression.graph.editor import Editor
from workers.compression.graph.rewrites.splice import constant_of, replace, splice

_MOST_TRIPS = 64
_MOST_NODES = 2000
"""Nodes that one loop may become."""


def unroll_loops(model: ir.Model) -> int:
    """Unroll every Loop with a constant trip count whose condition stays true.

    1. The condition is absent or a constant true, and the body returns a constant true, or the
       condition that it was given.
    2. The body's constants move into the main graph, so that all copies read the same weights.
    3. Values that are carried flow from one copy of the body to the next; scanned ones are stacked.
    4. Nodes and values get numbers appended to their names; the Loop's outputs keep theirs.

    Left alone: loops of no, more than 64, or an unknown number of trips; those that would become
    more than 2,000 nodes; loops inside of branches and of other loops.
    """
    edit, unrolled = Editor(model), 0
    for node in list(model.graph):
        if node.op_type == "Loop" and node.domain == "" and (trips := _trips(node)):
            _unroll(node, trips, edit)
            unrolled += 1
    if unrolled:
        passes.NameFixPass()(model)
    return unrolled


def _trips(node: ir.Node) -> int | None:
    """Return the number of trips of a loop, if it is known and worth unrolling."""
    count, condition = constant_of(node.inputs[0]), node.inputs[1]
    body = node.attributes["body"].as_graph()
    size = sum(1 for _ in ir.traversal.RecursiveGraphIterator(body))
    if count is None or not 0 < count <= _MOST_TRIPS or count * size > _MOST_NODES:
        return None
    if condition is not None and not constant_of(condition):
        return None
    return int(count) if _goes_on(body) else None


def _goes_on(body: ir.Graph) -> bool:
    """Return whether a body that gets a true condition always returns a true one."""
    value: ir.Value | None = body.outputs[0]
    while value is not None and value is not body.inputs[1]:
        if constant_of(value):
            return True
        node = value.producer()
        value = node.inputs[0] if node is not None and node.op_type == "Identity" else None
    return value is not None


def _move_out(body: ir.Graph, edit: Editor) -> None:
    """Move a body's constants into the main graph."""
    for name, value in list(body.initializers.items()):
        if not (value.is_graph_output() or value.is_graph_input()):
            del body.initializers[name]
            value.name = edit.fresh(name)
            edit.graph.register_initializer(value)


def _unroll(node: ir.Node, trips: int, edit: Editor) -> None:
    body, name = node.attributes["body"].as_graph(), node.outputs[0].name
    carried = list(node.inputs[2:])
    scanned: list[list[ir.Value]] = [[] for _ in range(len(node.outputs) - len(carried))]
    _move_out(body, edit)
    true = edit.constant(f"{name}_condition", np.array([True]).reshape(()))
    axis = edit.constant(f"{name}_axis", np.array([0]))
    for trip in range(trips):
        number = edit.constant(f"{name}_trip_{trip}", np.array(trip))
        copy = body.clone(allow_outer_scope_values=True)
        results = splice(copy, node, [number, true, *carried])[1:]
        carried = list(results[: len(carried)])
        for column, value in zip(scanned, results[len(carried) :], strict=True):
            row = ir.node("Unsqueeze", [value, axis])
            edit.graph.insert_before(node, row)
            column.append(row.outputs[0])
    stacked = [ir.node("Concat", column, {"axis": 0}) for column in scanned]
    edit.graph.insert_before(node, stacked)
    replace(node, [*carried, *(stack.outputs[0] for stack in stacked)])
