"""Finds which weights of a graph can be trained, and what torch does not take of it."""

from dataclasses import dataclass

import onnx_ir as ir

from app.domain.models import MAX_UNTRAINABLE, Skipped
from app.domain.problems import InvalidModel
from workers.compression import faults
from workers.compression.executor.compiling import compile_graph
from workers.compression.executor.dtypes import FLOATS
from workers.compression.graph.operators import operand, operator_of


def measured(model: ir.Model) -> set[str]:
    """Return the values that are measured on data, such as running statistics, not learned."""
    return {
        str(value.name)
        for node in model.graph
        if (operator := operator_of(node)) is not None
        for slot in operator.measured
        if (value := operand(node, slot)) is not None
    }


@dataclass(frozen=True)
class Findings:
    """What of a graph torch does not do."""

    obstacles: list[Skipped]
    """The nodes that keep its weights from being trained, with the reasons."""
    untranslated: list[str]
    """The nodes that torch has nothing like, so that no program is exported of the graph."""


def obstacles(model: ir.Model) -> list[Skipped]:
    """Return the nodes that keep a graph's weights from being trained; see ``examine``."""
    return examine(model).obstacles


def examine(model: ir.Model) -> Findings:
    """Return the nodes that keep a graph's weights from being trained, or it from being exported.

    A node of the first kind runs without gradient and lies on a path of floats from a weight to an
    output. Where there is no such path at all, the graph as a whole is named.

    Args:
        model: in normal form.
    """
    try:
        program = compile_graph(model, None)
    except InvalidModel as problem:
        reason = problem.detail[:500].removesuffix(".")  # a sentence goes on after it
        node = faults.node_of(problem)
        return Findings([_skipped(model, reason)], [node] if node else [])
    except Exception as error:  # noqa: BLE001 (what cannot be trained can still be compressed)
        faults.log(error)
        node = faults.node_of(error) or model.graph.name or "graph"
        reason = "the executor cannot build it: a fault of ours, please report it"
        return Findings([Skipped(node=node, reason=reason)], [])
    untranslated = program.untranslated[:MAX_UNTRAINABLE]
    fixed = measured(model)
    weights = {value for value in program.weights if str(value.name) not in fixed}
    way = _between(model.graph, weights)
    if not way:
        reason = "no float32 weight has a way to an output of floats"
        return Findings([_skipped(model, reason)], untranslated)
    names = {name for node in way for name in _names(node)}
    on_the_way = [frozen for frozen in program.frozen if frozen.node in names]
    return Findings(on_the_way[:MAX_UNTRAINABLE], untranslated)


def _skipped(model: ir.Model, reason: str) -> Skipped:
    return Skipped(node=model.graph.name or "graph", reason=reason)


def _between(graph: ir.Graph, weights: set[ir.Value]) -> list[ir.Node]:
    """Return the nodes through which floats flow from weights to outputs."""
    reached = set(weights)
    after = []
    for node in graph:
        if reached.intersection(_inputs(node)):
            reached.update(value for value in node.outputs if _is_float(value))
            after.append(node)
    leading = {value for value in graph.outputs if _is_float(value)}
    way = []
    for node in reversed(after):
        if leading.intersection(node.outputs) and any(map(_is_float, node.outputs)):
            leading.update(value for value in _inputs(node) if _is_float(value))
            way.append(node)
    return way


def _inputs(node: ir.Node) -> set[ir.Value]:
    """Return what a node reads, its subgraphs included."""
    return {value for inner in _whole(node) for value in inner.inputs if value is not None}


def _names(node: ir.Node) -> list[str]:
    """Return the names by which the executor calls a node and those of its subgraphs."""
    return [inner.name or f"{inner.op_type} of {inner.outputs[0].name}" for inner in _whole(node)]


def _whole(node: ir.Node) -> list[ir.Node]:
    graphs = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
    return [node, *(n for graph in graphs for n in ir.traversal.RecursiveGraphIterator(graph))]


def _is_float(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype in FLOATS
