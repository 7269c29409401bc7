"""Converts a graph to float16, except for the nodes with which onnxruntime does not run it.

It is run on an example: as it is written, in this process, and optimized, in a process that it may
crash.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.faults import node_named_by_runtime
from workers.compression.graph import runtime
from workers.compression.graph.as_delivered import as_delivered
from workers.compression.graph.operators import operator_of
from workers.compression.graph.precision import Change, bodies, retype
from workers.compression.graph.runtime import Arrays
from workers.compression.measure.memory import store_feeds
from workers.compression.samples.context import Context

HALF = Change(frozenset({ir.DataType.FLOAT}), ir.DataType.FLOAT16)

_ROUNDS = 8
"""The number of searches for nodes that fail, after which all nodes stay in float32."""

Excluded = dict[str, str]
"""The nodes that stay in float32, by name, each with the reason."""


def convert_what_runs(model: ir.Model, excluded: Excluded, context: Context) -> ir.Model:
    """Convert a graph; exclude more nodes, which are added to ``excluded``, until it runs."""
    names = {str(node.name): node for node in model.graph.all_nodes()}
    trials = _Trials(model, context)
    rounds = 0
    while True:
        excluded |= _inside(model, excluded)
        converted = _converted(model, excluded)
        failure = trials.failure(converted)
        if failure is None or len(excluded) >= len(names):
            return converted
        if failure.node in names.keys() - excluded.keys():
            operator = names[failure.node].op_type
            excluded[failure.node] = f"onnxruntime runs no {operator} of this form in float16"
            continue
        if trials.failure(model) is not None:
            return converted  # the graph fails in float32 too
        culprits = _culprits(model, excluded, trials) if rounds < _ROUNDS else list(names)
        excluded |= {name: failure.reason for name in culprits if name not in excluded}
        rounds += 1


def _inside(model: ir.Model, excluded: Excluded) -> Excluded:
    """Return the nodes in the bodies of excluded branches and loops."""
    return {
        str(inner.name): f"it lies inside '{node.name}', which stays in float32"
        for node in model.graph.all_nodes()
        if node.name in excluded
        for graph in bodies(node)
        for inner in graph.all_nodes()
        if inner.name not in excluded
    }


def _culprits(model: ir.Model, excluded: Excluded, trials: "_Trials") -> list[str]:
    """Return the nodes to exclude so that the graph runs: a failing node and those of its form.

    A bisection finds the shortest beginning of the graph that fails in float16; its last node is
    the failing one. It may be enough to exclude a producer of its inputs, which is cheaper if that
    producer has no weights.
    """
    order = [str(n.name) for n in model.graph.all_nodes() if n.name not in excluded]

    def fails(end: int, more_excluded: Collection[str] = ()) -> bool:
        unconverted = {*excluded, *order[end:], *more_excluded}
        return trials.failure(_converted(model, unconverted)) is not None

    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(middle) else (middle, high)
    nodes = {str(node.name): node for node in model.graph.all_nodes()}
    last = nodes[order[high - 1]]
    producers = [v.producer() for v in last.inputs if v is not None]
    for node in (p for p in producers if p is not None and p.name in order):
        same_form = _same_form(node, nodes)
        if operator_of(node) is None and not fails(high, same_form):
            return same_form
    return _same_form(last, nodes)


def _same_form(node: ir.Node, nodes: Mapping[str, ir.Node]) -> list[str]:
    """Return the nodes with the same operator, producers and consumers as a node."""
    return [name for name, other in nodes.items() if _form(other) == _form(node)]


def _form(node: ir.Node) -> tuple[str, frozenset[str], frozenset[str]]:
    makers = (value.producer() for value in node.inputs if value is not None)
    producer_types = frozenset(maker.op_type for maker in makers if maker is not None)
    consumer_types = frozenset(user.op_type for value in node.outputs for user in value.consumers())
    return node.op_type, producer_types, consumer_types


@dataclass(frozen=True)
class _Failure:
    """The failure of a graph in float16."""

    node: str
    """The node that onnxruntime names; empty if it names no node."""
    reason: str


class _Trials:
    """Runs converted graphs on the example, and reports failures.

    Args:
        model: the graph in float32, whose outputs are the reference.
        context: the example, and the function that runs a graph in a separate process.
    """

    def __init__(self, model: ir.Model, context: Context) -> None:
        self._context = context
        self._expected = self._outputs(model) if context.example else {}

    def failure(self, model: ir.Model) -> _Failure | None:
        """Run a graph: unoptimized in this process, then optimized in a separate process."""
        try:
            outputs = self._outputs(model)
        except Exception as error:  # noqa: BLE001 (onnxruntime has one class for each status code)
            name = node_named_by_runtime(error) or ""
            return _Failure(name, "onnxruntime does not run the graph with it in float16")
        if any(
            _has_new_nonfinite(expected, outputs[name]) for name, expected in self._expected.items()
        ):
            return _Failure("", "in float16 it makes outputs that are not finite")
        if self._dies(model):
            return _Failure("", "onnxruntime's optimizer dies on nodes of its form in float16")
        return None

    def _outputs(self, model: ir.Model) -> Arrays:
        session = runtime.session_of(model)
        return runtime.run(session, self._context.example) if self._context.example else {}

    def _dies(self, model: ir.Model) -> bool:
        """Return whether a graph crashes the process that runs it."""
        if self._context.isolated_run is None or not self._context.example:
            return False
        with runtime.in_file(model) as path:
            feeds = path.with_name("feeds.npz")
            store_feeds(feeds, self._context.example)
            delivered = as_delivered(path, path.with_name("delivered.onnx"))
            return self._context.isolated_run(delivered, feeds, self._context.threads) is None


def _has_new_nonfinite(expected: NDArray[Any], actual: NDArray[Any]) -> bool:
    """Return whether an element is not finite that should be."""
    if expected.dtype.kind != "f" or expected.shape != actual.shape:
        return False
    return bool((np.isfinite(expected) & ~np.isfinite(actual)).any())


def _converted(model: ir.Model, unconverted: Collection[str]) -> ir.Model:
    copy = model.clone()
    retype(copy, HALF, [node for node in copy.graph.all_nodes() if node.name in unconverted])
    return copy
