"""Remove nodes that pass their input on unchanged."""

import onnx_ir as ir


def remove_identities(model: ir.Model) -> int:
    """Remove Identity nodes, those in subgraphs too.

    1. Users of the output read the input instead.
    2. Where the output is a graph's output, the input takes its name and place.
    3. One whose output is a graph's output stays when its input has a name or a place to keep: a
       graph's input, initializer or output, or a value of another graph.
    """
    removed = 0
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        if node.op_type == "Identity" and node.domain == "" and _removable(node):
            _remove(node)
            removed += 1
    return removed


def _removable(node: ir.Node) -> bool:
    source, output = node.inputs[0], node.outputs[0]
    if source is None:
        return False
    if not output.is_graph_output():
        return True
    producer = source.producer()
    return producer is not None and producer.graph is node.graph and not source.is_graph_output()


def _remove(node: ir.Node) -> None:
    source, output = node.inputs[0], node.outputs[0]
    graph = node.graph
    if source is None or graph is None:
        return
    if output.is_graph_output():
        source.name, output.name = output.name, None
        source.shape, source.type = output.shape, output.type or source.type
    output.replace_all_uses_with(source, replace_graph_outputs=True)
    graph.remove(node, safe=True)
