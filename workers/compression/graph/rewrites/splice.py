"""Put nodes in the place of another: those of a branch or loop, or new ones."""

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from workers.compression.graph.editor import Editor, graph_of


def splice(body: ir.Graph, before: ir.Node, arguments: Iterable[ir.Value | None]) -> list[ir.Value]:
    """Move the nodes of a subgraph into the graph of ``before``.

    Args:
        body: the subgraph; empty afterwards.
        before: the node to insert them before.
        arguments: the values that replace the subgraph's inputs.

    Returns:
        The values that were the subgraph's outputs. Names may now occur twice.
    """
    graph = before.graph
    assert isinstance(graph, ir.Graph)
    for name in list(body.initializers):
        value = body.initializers.pop(name)
        while value.name in graph.initializers:
            value.name = f"{value.name}_"
        graph.register_initializer(value)
    for body_input, argument in zip(body.inputs, arguments, strict=True):
        assert argument is not None
        body_input.replace_all_uses_with(argument, replace_graph_outputs=True)
    nodes, outputs = list(body), list(body.outputs)
    body.outputs.clear()
    body.remove(nodes)
    graph.insert_before(before, nodes)
    return outputs


def replace(node: ir.Node, values: Sequence[ir.Value | None]) -> None:
    """Replace the outputs of a node by ``values``, under the outputs' names, and remove it.

    None stands for an output that nobody reads.
    """
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    for output, value in zip(node.outputs, values, strict=True):
        if value is None:
            continue
        passed = ir.node("Identity", [value])
        passed.outputs[0].shape, passed.outputs[0].type = output.shape, output.type
        graph.insert_before(node, passed)
        output.replace_all_uses_with(passed.outputs[0], replace_graph_outputs=True)
        passed.outputs[0].name, output.name = output.name, None
    graph.remove(node, safe=True)
    _release(node)


def _release(node: ir.Node) -> None:
    """Let the subgraphs of a removed node read nothing: what they read has other readers now."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in ir.traversal.RecursiveGraphIterator(attribute.as_graph()):
                for place in range(len(inner.inputs)):
                    inner.replace_input_with(place, None)


def constant_of(value: ir.Value | None) -> int | bool | None:
    """Return the value of a constant with one element, None if it is computed."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    if tensor is None or tensor.size != 1:
        return None
    element: int | bool = tensor.numpy().reshape(()).item()
    return element


def put(
    edit: Editor,
    before: ir.Node,
    operator: str,
    *inputs: ir.Value | None,
    attributes: Sequence[ir.Attr] = (),
    dtype: ir.DataType | None = None,
    name: str | None = None,
) -> ir.Value:
    """Insert a node before a fused one, and return its output.

    Args:
        edit: gives names that are free.
        before: the fused node; the first layer takes over its name.
        operator: of the standard domain.
        inputs: of the new node.
        attributes: of the new node.
        dtype: of the output; by default that of the fused node's first output.
        name: of the new node, where the fused one becomes several layers.
    """
    takes_over = operator in {"Conv", "Gemm", "MatMul", "LayerNormalization"}
    free = before.name if takes_over else edit.fresh(f"{before.name}_{operator}")
    node = ir.Node("", operator, inputs, attributes, name=name or free)
    node.outputs[0].name = edit.fresh(f"{name or before.name}_{operator}_output")
    node.outputs[0].type = before.outputs[0].type if dtype is None else ir.TensorType(dtype)
    graph_of(before).insert_before(before, node)
    return node.outputs[0]
