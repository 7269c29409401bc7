"""Replaces what exporters spell out of several operators by the one operator that it is.

A pattern is tried where it may match alone: at nodes that lie a few steps behind the operator that
tells the idiom. So a graph is read once, however many spellings there are.
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
        rules: of which the first that matches is taken.
        marks: operators of which each pattern has one.
        ends: operators that patterns end with.
        reach: how many nodes the end of a pattern lies behind its mark at most.

    Returns:
        How many matches were replaced.
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
    """Return the nodes at most ``reach`` steps behind some, the farthest first."""
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
        found = rule.try_rewrite(model, graph, node)
        if found is not None:
            ir.convenience.replace_nodes_and_values(
                graph, node, found.match.nodes, found.new_nodes,
                found.match.outputs, found.new_outputs,
            )  # fmt: skip
            return True
    return False
