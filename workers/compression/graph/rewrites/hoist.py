"""Move the weights of branches and loops into the main graph."""

import hashlib
from collections import Counter

import onnx_ir as ir

from workers.compression.graph.editor import Editor


def hoist_constants(model: ir.Model) -> int:
    """Move the constants of branches and loops into the main graph, equal ones once.

    1. Two branches that hold the same weight, as merged decoders do, read one.
    2. Names stay, with a number behind those that occur twice.
    3. A constant that is itself an output of its branch or loop stays there.
    4. Equal constants of the main graph itself are not merged: two equal biases stay two.
    """
    edit, stored = Editor(model), dict[tuple[object, ...], ir.Value]()
    uses, moved = _counted(model), 0
    for graph in list(model.graphs()):
        if graph is model.graph:
            continue
        for name, value in list(graph.initializers.items()):
            tensor = value.const_value
            if tensor is None or value.is_graph_output() or value.is_graph_input():
                continue
            del graph.initializers[name]
            moved += 1
            key = (tensor.dtype, tuple(tensor.shape.numpy()), _digest(tensor))
            if key in stored:
                value.replace_all_uses_with(stored[key])
                continue
            value.name = name if uses[name] == 1 else edit.fresh(name)
            edit.graph.register_initializer(value)
            stored[key] = value
    return moved


def _counted(model: ir.Model) -> Counter[str | None]:
    """Count the values of all graphs by name."""
    ends = (v for g in model.graphs() for v in (*g.inputs, *g.initializers.values()))
    made = (value for node in model.graph.all_nodes() for value in node.outputs)
    return Counter(value.name for value in (*ends, *made))


def _digest(tensor: ir.TensorProtocol) -> bytes:
    if tensor.dtype == ir.DataType.STRING:
        return repr(tensor.numpy().tolist()).encode()
    return hashlib.sha256(tensor.tobytes()).digest()
