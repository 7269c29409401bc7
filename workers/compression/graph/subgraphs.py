"""Graphs within graphs: branches, bodies of loops and scans, and functions of a model's own."""

from collections.abc import Iterator, Sequence

import onnx
import onnx_ir as ir


def subgraphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that a node has in its attributes, without those in them."""
    for attribute in node.attribute:
        yield from [attribute.g] if attribute.HasField("g") else attribute.graphs


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph, and all graphs within it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs_of(node):
            yield from all_graphs(inner)


def nodes_of(model: ir.Model) -> Iterator[ir.Node]:
    """Yield all nodes of a model, those of its functions and within others included."""
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        yield from ir.traversal.RecursiveGraphIterator(graph)


def put_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Give a graph these nodes in the place of its own, which may be among them."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
