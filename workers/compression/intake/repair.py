"""What may be put right in an upload without asking: habits of exporters that mean one thing."""

import heapq
from collections import defaultdict
from collections.abc import Iterator

import onnx


def repair(graph: onnx.GraphProto) -> None:
    """Put a graph's nodes in order and make sizes of -1 dynamic, in place."""
    _sort_nodes(graph)
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value == -1:
                dim.ClearField("value")


def _sort_nodes(graph: onnx.GraphProto) -> None:
    """Sort nodes topologically, keeping their order where it is free; a cycle stays as it is.

    ONNX demands the order; converters (float16, quantizers) append their nodes at the end.
    """
    nodes = list(graph.node)
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    users: dict[int, set[int]] = defaultdict(set)
    waiting = [0] * len(nodes)
    for index, node in enumerate(nodes):
        needed = {producer[name] for name in _reads(node) if name in producer}
        waiting[index] = len(needed)
        for each in needed:
            users[each].add(index)
    ready = [index for index, count in enumerate(waiting) if not count]
    order = []
    while ready:
        order.append(heapq.heappop(ready))
        for user in users[order[-1]]:
            waiting[user] -= 1
            if not waiting[user]:
                heapq.heappush(ready, user)
    if len(order) == len(nodes) and order != sorted(order):
        copies = [onnx.NodeProto.FromString(nodes[i].SerializeToString()) for i in order]
        del graph.node[:]
        graph.node.extend(copies)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node and the graphs inside of it read."""
    yield from node.input
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _reads(inner)
