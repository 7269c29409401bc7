"""Finds the nodes that the returned values of a graph depend on."""

from collections.abc import Iterable, Iterator, Mapping

import onnx_ir as ir

from workers.compression.executor.fusions import Fusion


def needed(
    graph: ir.Graph, returned: Iterable[ir.Value], fused: Mapping[ir.Node, Fusion]
) -> Iterator[ir.Node]:
    """Yield the nodes that ``returned`` depends on, in the graph's order."""
    read = set(returned)
    nodes = []
    for node in reversed(graph):
        fusion = fused.get(node)
        results = node.outputs if fusion is None or fusion.outputs is None else fusion.outputs
        if node.op_type == "Constant" or not read.intersection(results):
            continue
        nodes.append(node)
        read.update(v for v in (fusion.inputs if fusion else node.inputs) if v is not None)
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                read.update(_values_read(attribute.as_graph()))
    return reversed(nodes)


def _values_read(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.outputs
    for node in ir.traversal.RecursiveGraphIterator(graph):
        yield from (value for value in node.inputs if value is not None)
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from attribute.as_graph().outputs
