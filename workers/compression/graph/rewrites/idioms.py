"""Replaces operators that exporters write as several nodes by the one operator.

A pattern is tried only where it may match: at nodes a few steps after the characteristic operator
of the idiom. So a graph is read once, however many variants there are.
"""

from collections.abc import Collection, Iterable

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript.rewriter import RewriteRuleSet


def rewrite(
    model: ir.Model,
    rules: RewriteRuleSet,
    marks: Collection[str],
    ends: Collection[str],
    reach: int,
) -> int:
    """Apply rules whose patterns have one output and add no constants.

    Args:
        model: the graph; changed in place, in its subgraphs too.
        rules: the rules; the first one that matches is applied.
        marks: the characteristic operators; each pattern has one of them.
        ends: the operators that patterns end with.
        reach: the largest number of nodes from the mark to the end of a pattern.

    Returns:
        The number of replaced matches.
    """
    marked = [n for n in ir.traversal.RecursiveGraphIterator(model.graph) if n.op_type in marks]
    count = 0
    for node in _behind(marked, reach):
        if node.op_type in ends and node.graph is not None:
            count += _replace(model, node, rules)
    if count:
        passes.NameFixPass()(model)
    return count


def _behind(nodes: Iterable[ir.Node], reach: int) -> list[ir.Node]:
    """Return the nodes at most ``reach`` steps after the given ones, the farthest first."""
    reached = dict.fromkeys(nodes)
    edge = list(reached)
    for _ in range(reach):
        readers = (
            reader for node in edge for value in node.outputs for reader in value.consumers()
        )
        edge = [reader for reader in dict.fromkeys(readers) if reader not in reached]
        reached.update(dict.fromkeys(edge))
    return list(reversed(reached))


def _replace(model: ir.Model, node: ir.Node, rules: RewriteRuleSet) -> bool:
    """Apply the first rule that matches the subgraph that ends at a node."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    for rule in rules:
        match = rule.try_rewrite(model, graph, node)
        if match is not None:
            ir.convenience.replace_nodes_and_values(
                graph, node, match.match.nodes, match.new_nodes,
                match.match.outputs, match.new_outputs,
            )  # fmt: skip
            return True
    return False
