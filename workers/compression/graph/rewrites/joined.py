"""Groups of nodes that compute constants out of the same weights."""

from collections.abc import Collection, Iterator, Sequence

import onnx_ir as ir


def groups_of(nodes: Sequence[ir.Node], joining: Collection[ir.Value]) -> Iterator[list[ir.Node]]:
    """Yield the nodes that depend on each other, or read the same constant, group by group.

    Args:
        nodes: all nodes that compute constants, in an order in which they can run.
        joining: the constants by which those who read them belong together.
    """
    first: dict[ir.Node, ir.Node] = {}
    """Of each node another one of its group; the first one of a group leads to itself."""
    readers: dict[ir.Value, ir.Node] = {}

    def leader(node: ir.Node) -> ir.Node:
        while first[node] is not node:
            first[node] = first[first[node]]
            node = first[node]
        return node

    for node in nodes:
        first[node] = node
        for value in filter(None, node.inputs):
            other = readers.setdefault(value, node) if value in joining else value.producer()
            if other in first:
                first[leader(node)] = leader(other)
    groups: dict[ir.Node, list[ir.Node]] = {}
    for node in nodes:
        groups.setdefault(leader(node), []).append(node)
    yield from groups.values()


def read_outside(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    """Return the outputs of nodes that others read."""
    members = set(nodes)
    return [
        value
        for node in nodes
        for value in node.outputs
        if any(reader not in members for reader in value.consumers())
    ]


def read_inside_only(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    """Return the constants that are read by these nodes alone: without them nobody needs those."""
    members = set(nodes)
    values = {value for node in nodes for value in node.inputs if value is not None}
    return [
        value
        for value in values
        if value.const_value is not None
        and not value.is_graph_output()
        and members.issuperset(value.consumers())
    ]
