"""Repairs harmless faults of exporters whose meaning is unambiguous.

Where onnxruntime accepts a faulty file, it is read as onnxruntime reads it.
"""

import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterator

import onnx

from workers.compression.graph.subgraphs import put_nodes, subgraphs_of

_STANDARD = "ai.onnx"
"""The default domain's long name."""

_CONSTANTS = 4
"""The IR version from which on initializers need not be inputs."""

_MOST_REPEATED = 1_000
"""Fields that are deleted: each deletion moves those behind it. The checks refuse the others."""


def unite(proto: onnx.ModelProto) -> None:
    """Remove duplicates of merged files, in place: the last one stays, as in onnxruntime.

    Duplicates are operator sets that are imported twice, also under both names of the default
    domain, and weights and outputs that are listed twice.
    """
    versions = {_domain(entry.domain): entry.version for entry in proto.opset_import}
    del proto.opset_import[:]
    for domain, version in versions.items():
        proto.opset_import.add(domain=domain, version=version)
    _name_standard(proto.graph)
    for fields in (proto.graph.initializer, proto.graph.output):
        last = {field.name: index for index, field in enumerate(fields)}
        repeated = [index for index, field in enumerate(fields) if last[field.name] != index]
        for index in reversed(repeated[:_MOST_REPEATED]):
            del fields[index]


def _domain(name: str) -> str:
    return "" if name == _STANDARD else name


def _name_standard(graph: onnx.GraphProto) -> None:
    """Give standard operators the short name of the default domain, the only one imported."""
    for node in graph.node:
        if node.domain == _STANDARD:
            node.ClearField("domain")  # set to nothing, it would take two bytes
        for inner in subgraphs_of(node):
            _name_standard(inner)


def repair(proto: onnx.ModelProto) -> None:
    """Put a model's nodes in order, name them apart and make sizes of -1 dynamic, in place.

    A model whose weights are no inputs gets the first IR version that allows it.
    """
    graph = proto.graph
    _sort_nodes(graph)
    _name_apart(graph)
    inputs = {value.name for value in graph.input}
    if any(tensor.name not in inputs for tensor in graph.initializer):
        proto.ir_version = max(proto.ir_version, _CONSTANTS)
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value == -1:
                dim.ClearField("value")


def _name_apart(graph: onnx.GraphProto) -> None:
    """Put a number behind the name of each node that another one before it has.

    Names of nodes mean nothing to a graph, but onnxruntime refuses one that occurs twice in it.
    """
    taken, seen = {node.name for node in graph.node if node.name}, set[str]()
    numbers = defaultdict[str, Iterator[int]](lambda: itertools.count(2))
    for node in graph.node:
        if (name := node.name) in seen:
            names = (f"{name}_{number}" for number in numbers[name])
            node.name = next(fresh for fresh in names if fresh not in taken)
            taken.add(node.name)
        elif name:
            seen.add(name)
        for inner in subgraphs_of(node):
            _name_apart(inner)


def _sort_nodes(graph: onnx.GraphProto) -> None:
    """Sort nodes topologically, keeping their order where possible; a cycle stays unchanged.

    ONNX demands the order; converters (float16, quantizers) append their nodes at the end.
    """
    nodes = list(graph.node)
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    users: dict[int, set[int]] = defaultdict(set)
    waiting = [0] * len(nodes)
    for index, node in enumerate(nodes):
        needed = {producer[name] for name in _reads(node) if name in producer}
        waiting[index] = len(needed)
        for name_needed in needed:
            users[name_needed].add(index)
    ready = [index for index, count in enumerate(waiting) if not count]
    order = []
    while ready:
        order.append(heapq.heappop(ready))
        for user in users[order[-1]]:
            waiting[user] -= 1
            if not waiting[user]:
                heapq.heappush(ready, user)
    if len(order) == len(nodes) and order != sorted(order):
        put_nodes(graph, [nodes[index] for index in order])


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node and the graphs inside of it read."""
    yield from node.input
    for graph in subgraphs_of(node):
        yield from (value.name for value in graph.output)
        for inner in graph.node:
            yield from _reads(inner)
