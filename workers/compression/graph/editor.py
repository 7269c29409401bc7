"""Edits a graph in place: nodes and constants under names that never collide."""

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


class Editor:
    """Edits a model in place.

    New constants lie in its main graph, which branches and loops read too. Nodes may stand in any
    of its graphs.

    Args:
        model: the graph to edit.
    """

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.graph = model.graph
        self._names = _names(model)
        self._taken = Counter[str]()

    def constant(self, name: str, array: NDArray[Any]) -> ir.Value:
        """Add an initializer."""
        fresh = self.fresh(name)
        tensor = ir.Tensor(np.asarray(array, order="C"), name=fresh)  # a scalar keeps its rank of 0
        value = ir.Value(
            name=fresh, const_value=tensor, shape=tensor.shape, type=ir.TensorType(tensor.dtype)
        )
        self.graph.register_initializer(value)
        return value

    def node(
        self,
        operator: str,
        inputs: list[ir.Value],
        *outputs: str,
        domain: str = "",
        **attributes: Any,
    ) -> ir.Node:
        """Make a node, not yet in the graph, with the name of its first output."""
        node = ir.node(operator, inputs, attributes, domain=domain, num_outputs=len(outputs))
        for value, name in zip(node.outputs, outputs, strict=True):
            value.name = self.fresh(name)
        node.name = node.outputs[0].name
        if domain:
            self.graph.opset_imports.setdefault(domain, 1)
        return node

    def replace(self, node: ir.Node, steps: list[ir.Node]) -> None:
        """Replace a node by several nodes; the output of the last one takes over its name."""
        graph = graph_of(node)
        graph.insert_before(node, steps)
        old, new = node.outputs[0], steps[-1].outputs[0]
        new.shape, new.type = old.shape, old.type
        name = old.name
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        new.name = name

    def bypass(self, node: ir.Node) -> None:
        """Remove a node; readers of its output read its first input instead."""
        value = node.inputs[0]
        assert value is not None
        ir.convenience.replace_all_uses_with(node.outputs[0], value)
        graph_of(node).remove(node, safe=True)

    def remove_unused(self) -> None:
        """Remove the initializers that nothing reads, also those of branches and loops."""
        for graph in self.model.graphs():
            for name, value in list(graph.initializers.items()):
                if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                    del graph.initializers[name]

    def insert_after(self, value: ir.Value, nodes: Collection[ir.Node]) -> None:
        """Insert nodes right after the producer of ``value``, or at the start of its graph."""
        producer = value.producer()
        graph = value.graph or self.graph
        if producer is not None:
            graph_of(producer).insert_after(producer, nodes)
        elif len(graph):
            graph.insert_before(graph[0], nodes)
        else:
            graph.extend(nodes)

    def behind(self, value: ir.Value, *nodes: ir.Node) -> None:
        """Insert nodes after ``value``; its readers read the last one, under the same name."""
        last = nodes[-1].outputs[0]
        first_reader = nodes[0]
        uses = [use for use in value.uses() if use[0] is not first_reader]
        self.insert_after(value, nodes)
        for node, slot in uses:
            node.replace_input_with(slot, last)
        if value.is_graph_output():
            outputs = (value.graph or self.graph).outputs
            outputs[outputs.index(value)] = last
            last.shape, last.type = value.shape, value.type
            value.name, last.name = self.fresh(f"{value.name}_float"), value.name

    def fresh(self, name: str) -> str:
        """Return ``name``, with a number appended if it is in use."""
        candidate = name
        while candidate in self._names:
            self._taken[name] += 1
            candidate = f"{name}_{self._taken[name]}"
        self._names.add(candidate)
        return candidate


def graph_of(node: ir.Node) -> ir.Graph:
    """Return the graph that holds a node: the main one, or the body of a branch or loop."""
    assert isinstance(node.graph, ir.Graph), f"{node.name} stands in no graph"
    return node.graph


def constant(value: ir.Value) -> NDArray[Any]:
    """Return the values of an initializer."""
    if value.const_value is None:
        raise ValueError(f"{value.name} is not constant")
    return value.const_value.numpy()


def name_nodes(model: ir.Model) -> None:
    """Give each node without a name a reproducible one, so that reports can name it."""
    taken = {node.name for node in model.graph.all_nodes() if node.name}
    for index, node in enumerate(model.graph.all_nodes()):
        if not node.name:
            name = f"{node.op_type}_{index}"
            node.name = name if name not in taken else f"{name}_{len(taken)}"
            taken.add(node.name)


def _names(model: ir.Model) -> set[str]:
    """Return the names of all values and nodes, those in subgraphs included."""
    names = {
        str(v.name)
        for graph in model.graphs()
        for v in (*graph.inputs, *graph.initializers.values())
    }
    for node in model.graph.all_nodes():
        names |= {str(value.name) for value in node.outputs} | {str(node.name)}
    return names
