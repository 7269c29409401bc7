"""Put what a subgraph computes into the graph around it: what branches and loops share."""

from collections.abc import Iterable, Sequence

import onnx_ir as ir


def splice(body: ir.Graph, before: ir.Node, arguments: Iterable[ir.Value | None]) -> list[ir.Value]:
    """Move the nodes of a subgraph into the graph of ``before``.

    Args:
        body: emptied.
        before: the node that they are put before.
        arguments: what takes the place of the subgraph's inputs.

    Returns:
        The values that were the subgraph's outputs. Names may occur twice now.
    """
    graph = before.graph
    assert isinstance(graph, ir.Graph)
    for name in list(body.initializers):
        value = body.initializers.pop(name)
        while value.name in graph.initializers:
            value.name = f"{value.name}_"
        graph.register_initializer(value)
    for mine, given in zip(body.inputs, arguments, strict=True):
        assert given is not None
        mine.replace_all_uses_with(given, replace_graph_outputs=True)
    nodes, outputs = list(body), list(body.outputs)
    body.outputs.clear()
    body.remove(nodes)
    graph.insert_before(before, nodes)
    return outputs


def replace(node: ir.Node, values: Sequence[ir.Value | None]) -> None:
    """Let ``values`` stand for the outputs of a node, under the outputs' names, and remove it."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    for output, value in zip(node.outputs, values, strict=True):
        passed = ir.node("Identity", [value])
        passed.outputs[0].shape, passed.outputs[0].type = output.shape, output.type
        graph.insert_before(node, passed)
        output.replace_all_uses_with(passed.outputs[0], replace_graph_outputs=True)
        passed.outputs[0].name, output.name = output.name, None
    graph.remove(node, safe=True)


def known(value: ir.Value | None) -> int | bool | None:
    """Return the value of a constant with one element, None if it is computed."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    if tensor is None or tensor.size != 1:
        return None
    element: int | bool = tensor.numpy().reshape(()).item()
    return element
