"""Half precision: weights and arithmetic in float16, inputs and outputs as they were.

A node stays in float32, between Casts, if

1. the request names it, or its operator's schema has no float16;
2. its numbers exceed the range of float16: see ``half_range``;
3. onnxruntime rejects it in float16, or crashes: this is tested in a separate process.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.reports import LayerChange
from app.domain.steps import Quantize, Skipped
from workers.compression.faults import node_named_by_runtime
from workers.compression.graph import runtime
from workers.compression.graph.as_delivered import as_delivered
from workers.compression.graph.editor import constant
from workers.compression.graph.fingerprint import fingerprint
from workers.compression.graph.inference import infer
from workers.compression.graph.load import load
from workers.compression.graph.narrow import mark_stored, stored_as, stored_type
from workers.compression.graph.operators import operand, operator_of
from workers.compression.graph.precision import Change, bodies, fits, retype, touches_sequence
from workers.compression.graph.runtime import Arrays
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.measure.memory import store_feeds
from workers.compression.measure.ratio import Ratio
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.exclusions import (
    costs_little,
    file_bytes,
    is_slower,
    is_trivial,
)
from workers.compression.methods.quantize.half_range import out_of_range
from workers.compression.samples.context import Context

_ROUNDS = 8
"""The number of searches for nodes that fail, after which all nodes stay in float32."""

_HALF = Change(frozenset({ir.DataType.FLOAT}), ir.DataType.FLOAT16)

_STORED = "weights stored"

_ALREADY = "the model was uploaded in float16"

_COUNTING = ("CumSum", "Range")
_SCALED = ("DequantizeLinear", "QuantizeLinear")

Excluded = dict[str, str]
"""The nodes that stay in float32, by name, each with the reason."""


def convert_to_float16(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Convert all nodes of a graph to float16 that onnxruntime runs with finite results.

    If the graph is slower in float16, only the stored weights become float16. This does not hold if
    the step forces the conversion, or if the graph is too small for either to matter. An upload
    that was float16, and was not changed since, is skipped.

    Args:
        model: the graph.
        parameters: the ignored nodes, and whether the conversion is forced.
        context: an example to run, and the data that ranges are observed on.
        advance: called with the fraction done.
    """
    if _is_upload_in_half(model, context):
        return Outcome(model, [], [Skipped(node=name, reason=_ALREADY) for name in _layers(model)])
    infer(model)
    excluded = {
        **{
            str(node.name): why
            for node in model.graph.all_nodes()
            if (why := _unconvertible(node, model))
        },
        **(_untried(model) if context.isolated_run is None and context.example else {}),
        **out_of_range(model, context),
        **{s.node: s.reason for s in _ignored(model, parameters)},
    }
    converted = _convert_what_runs(model, excluded, context)
    advance(1.0)
    may_stay_float = not parameters.force and not is_trivial(model, context)
    if may_stay_float and (slower := is_slower(model, converted, context)) is not None:
        stored = _stored_in_half(model.clone(), parameters, slower)
        saves = bool(stored.layers) and file_bytes(stored.model) < file_bytes(model)
        if saves or not costs_little(model, converted, context):
            return stored
    changes = _changes(model, excluded)
    skipped = [Skipped(node=name, reason=reason) for name, reason in excluded.items()]
    skipped += [
        Skipped(node=str(node.name), reason=f"its weights are {dtypes}, not float32")
        for node in model.graph.all_nodes()
        if (dtypes := _other_types(node))
    ]
    return Outcome(converted if changes else model, changes, skipped)


def _stored_in_half(model: ir.Model, parameters: Quantize, slower: Ratio) -> Outcome:
    """Return the graph with weights stored in float16; it computes in float32 as before."""
    ignored = _ignored(model, parameters)
    note = (
        f"In half the graph was measured at {slower.value:.2f} times the speed of float32: its"
        " weights are stored in half, and are float32 once a session is open."
    )
    changes = _changes(model, {refusal.node for refusal in ignored}, _STORED)
    mark_stored(model, ir.DataType.FLOAT16)
    return Outcome(model, changes, ignored, [note])


def _is_upload_in_half(model: ir.Model, context: Context) -> bool:
    """Return whether a graph is the upload, and the upload was float16 before its normal form."""
    if stored_type(model) != ir.DataType.FLOAT16 or context.original is None:
        return False
    return fingerprint(model) == fingerprint(load(context.original))


def _layers(model: ir.Model) -> list[str]:
    nodes = model.graph.all_nodes()
    return [str(node.name) for node in nodes if (op := operator_of(node)) and op.weights]


def _ignored(model: ir.Model, parameters: Quantize) -> list[Skipped]:
    nodes = model.graph.all_nodes()
    refusals = (parameters.skip(str(node.name), node.op_type) for node in nodes)
    return [refusal for refusal in refusals if refusal is not None]


def _unconvertible(node: ir.Node, model: ir.Model) -> str | None:
    """Return why a node with float32 values should not be converted; None if it can be."""
    if not any(value is not None and _HALF.of(value) for value in (*node.inputs, *node.outputs)):
        return None
    if touches_sequence(node, _HALF):
        return "it handles a sequence of float32 tensors, which no Cast converts"
    if node.op_type in _COUNTING:
        return "it may count further than half does, to 2,048"
    if node.op_type in _SCALED:
        return "int8 kernels read float32 scales"
    if not fits(node, _HALF, model.graph.opset_imports.get(node.domain, 1)):
        return f"{node.op_type} has no float16 form"
    return None


def _untried(model: ir.Model) -> Excluded:
    """Return the nodes that may crash onnxruntime (1.32), for use where no test is possible.

    These are Transposes before MatMuls, which onnxruntime fuses.
    """
    reason = "onnxruntime may die on it in float16, before a product, which cannot be tried here"
    return {
        str(node.name): reason
        for node in model.graph.all_nodes()
        if node.op_type == "Transpose"
        and any(reader.op_type == "MatMul" for reader in node.outputs[0].consumers())
    }


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


def _convert_what_runs(model: ir.Model, excluded: Excluded, context: Context) -> ir.Model:
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
    retype(copy, _HALF, [node for node in copy.graph.all_nodes() if node.name in unconverted])
    return copy


def _other_types(node: ir.Node) -> str:
    """Return the types of a node's weights, if none of the weights is float32."""
    operator = operator_of(node)
    values = [operand(node, slot) for slot in operator.weights] if operator is not None else []
    types = {value.dtype for value in values if value is not None and value.is_initializer()}
    names = {
        dtype.name.lower() for dtype in types if dtype is not None and dtype.is_floating_point()
    }
    return "" if "float" in names else ", ".join(sorted(names))


def _changes(
    model: ir.Model, unconverted: Collection[str], converted: str = "weights and arithmetic"
) -> list[LayerChange]:
    """Report each float32 weight of a node that is converted."""
    changes = []
    for node in model.graph.all_nodes():
        operator = operator_of(node)
        if operator is None or node.name in unconverted:
            continue
        for slot in operator.weights:
            value = operand(node, slot)
            if value is None or not value.is_initializer() or value.dtype != ir.DataType.FLOAT:
                continue
            array = constant(value)
            half, stored = array.astype(np.float16), stored_as(model, array)
            description = (
                "arithmetic" if converted != _STORED and stored == half.dtype else converted
            )
            changes.append(
                LayerChange(
                    node=str(node.name),
                    operator=node.op_type,
                    change=f"{description} float32 → float16",
                    bytes_before=array.size * stored.itemsize,
                    bytes_after=half.nbytes,
                    sqnr_db=sqnr_db(array, half.astype(np.float32)),
                )
            )
    return changes
