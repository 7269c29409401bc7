"""Half precision: weights and arithmetic in float16, inputs and outputs as they were.

Nodes stay in float32 between Casts where

1. the request names them, or their operator has no form in half (by its schema);
2. numbers leave the range of half in them: see ``half_range``;
3. onnxruntime refuses them in half, or dies: found by running, in a process of its own.
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
from workers.compression.graph.editor import constant
from workers.compression.graph.fingerprint import fingerprint
from workers.compression.graph.inference import infer
from workers.compression.graph.load import load
from workers.compression.graph.narrow import mark_stored, stored_as, stored_type
from workers.compression.graph.operators import operand, operator_of
from workers.compression.graph.precision import Change, bodies, fits, retype, touches_sequence
from workers.compression.graph.runtime import Arrays
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.measure.ratio import Ratio
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.half_range import out_of_range
from workers.compression.methods.quantize.paying import (
    costs_little,
    file_bytes,
    is_slower,
    is_trivial,
)
from workers.compression.samples.context import Context

_ROUNDS = 8
"""Kinds of nodes that are looked for before all stay in float32."""

_HALF = Change(frozenset({ir.DataType.FLOAT}), ir.DataType.FLOAT16)

_STORED = "weights stored"

_ALREADY = "the model was uploaded in float16"

_COUNTING = ("CumSum", "Range")
_SCALED = ("DequantizeLinear", "QuantizeLinear")

Left = dict[str, str]
"""Names of nodes that stay in float32, each with the reason."""


def convert_to_float16(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Convert a graph to half precision, as much of it as onnxruntime runs with sound numbers.

    Where half is slower, weights alone are half, in the file, unless the step forces it, or the
    graph is too small for either to matter.

    Args:
        model: the graph.
        parameters: what stays in float32.
        context: an example to run, and the data to look at.
        advance: told the fraction done: all of it.

    Of an upload in half, that nothing has changed yet, nothing is left to convert.
    """
    if _is_upload_in_half(model, context):
        return Outcome(model, [], [Skipped(node=name, reason=_ALREADY) for name in _layers(model)])
    infer(model)
    left = {
        **{str(node.name): why for node in model.graph.all_nodes() if (why := _unfit(node, model))},
        **(_untried(model) if context.apart is None and context.example else {}),
        **out_of_range(model, context),
        **{s.node: s.reason for s in _ignored(model, parameters)},
    }
    converted = _settled(model, left, context)
    advance(1.0)
    free = not parameters.force and not is_trivial(model, context)
    if free and (slower := is_slower(model, converted, context)) is not None:
        stored = _stored_in_half(model.clone(), parameters, slower)
        saves = bool(stored.layers) and file_bytes(stored.model) < file_bytes(model)
        if saves or not costs_little(model, converted, context):
            return stored
    changes = _changes(model, left)
    skipped = [Skipped(node=name, reason=reason) for name, reason in left.items()]
    skipped += [
        Skipped(node=str(node.name), reason=f"its weights are {dtypes}, not float32")
        for node in model.graph.all_nodes()
        if (dtypes := _other_types(node))
    ]
    return Outcome(converted if changes else model, changes, skipped)


def _stored_in_half(model: ir.Model, parameters: Quantize, slower: Ratio) -> Outcome:
    """Return a graph that computes in float32 as before, and whose weights are half in the file."""
    ignored = _ignored(model, parameters)
    note = (
        f"In half the graph was measured at {slower.value:.2f} times the speed of float32: its"
        " weights are stored in half, and are float32 once a session is open."
    )
    changes = _changes(model, {each.node for each in ignored}, _STORED)
    mark_stored(model, ir.DataType.FLOAT16)
    return Outcome(model, changes, ignored, [note])


def _is_upload_in_half(model: ir.Model, context: Context) -> bool:
    """Return whether a graph is the upload, brought from half to float32 for other methods."""
    if stored_type(model) != ir.DataType.FLOAT16 or context.original is None:
        return False
    return fingerprint(model) == fingerprint(load(context.original))


def _layers(model: ir.Model) -> list[str]:
    nodes = model.graph.all_nodes()
    return [str(node.name) for node in nodes if (op := operator_of(node)) and op.weights]


def _ignored(model: ir.Model, parameters: Quantize) -> list[Skipped]:
    nodes = model.graph.all_nodes()
    found = (parameters.skip(str(node.name), node.op_type) for node in nodes)
    return [each for each in found if each is not None]


def _unfit(node: ir.Node, model: ir.Model) -> str | None:
    """Say why a node that handles float32 cannot, or should not, handle halves."""
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


def _untried(model: ir.Model) -> Left:
    """Return what onnxruntime (1.32) dies on where no process apart can try: it fuses both."""
    reason = "onnxruntime may die on it in float16, before a product, which cannot be tried here"
    return {
        str(node.name): reason
        for node in model.graph.all_nodes()
        if node.op_type == "Transpose"
        and any(reader.op_type == "MatMul" for reader in node.outputs[0].consumers())
    }


def _inside(model: ir.Model, left: Left) -> Left:
    """Return the nodes in the bodies of branches and loops that stay in float32."""
    return {
        str(inner.name): f"it lies inside '{node.name}', which stays in float32"
        for node in model.graph.all_nodes()
        if node.name in left
        for graph in bodies(node)
        for inner in graph.all_nodes()
        if inner.name not in left
    }


def _settled(model: ir.Model, left: Left, context: Context) -> ir.Model:
    """Convert a graph and leave more nodes in float32, noted in ``left``, until it runs soundly."""
    names = {str(node.name): node for node in model.graph.all_nodes()}
    trials = _Trials(model, context)
    rounds = 0
    while True:
        left |= _inside(model, left)
        converted = _converted(model, left)
        fault = trials.fault(converted)
        if fault is None or len(left) >= len(names):
            return converted
        if fault.node in names.keys() - left.keys():
            operator = names[fault.node].op_type
            left[fault.node] = f"onnxruntime runs no {operator} of this form in float16"
            continue
        if trials.fault(model) is not None:
            return converted  # in float32 it fares no better
        found = _culprits(model, left, trials) if rounds < _ROUNDS else list(names)
        left |= {name: fault.words for name in found if name not in left}
        rounds += 1


def _culprits(model: ir.Model, left: Left, trials: "_Trials") -> list[str]:
    """Return nodes of one form that a graph runs better without in half: found by bisection.

    The last node of the shortest beginning of the graph that fails in half fails with what is
    before it: leaving what it reads in float32 may do, and costs less where that has no weights.
    """
    order = [str(n.name) for n in model.graph.all_nodes() if n.name not in left]

    def fails(begun: int, besides: Collection[str] = ()) -> bool:
        kept = {*left, *order[begun:], *besides}
        return trials.fault(_converted(model, kept)) is not None

    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(middle) else (middle, high)
    nodes = {str(node.name): node for node in model.graph.all_nodes()}
    last = nodes[order[high - 1]]
    makers = [v.producer() for v in last.inputs if v is not None]
    for node in (each for each in makers if each is not None and each.name in order):
        alike = _alike(node, nodes)
        if operator_of(node) is None and not fails(high, alike):
            return alike
    return _alike(last, nodes)


def _alike(node: ir.Node, nodes: Mapping[str, ir.Node]) -> list[str]:
    """Return the nodes with a node's operator and neighbours."""
    return [name for name, each in nodes.items() if _form(each) == _form(node)]


def _form(node: ir.Node) -> tuple[str, frozenset[str], frozenset[str]]:
    makers = (value.producer() for value in node.inputs if value is not None)
    before = frozenset(maker.op_type for maker in makers if maker is not None)
    after = frozenset(user.op_type for value in node.outputs for user in value.consumers())
    return node.op_type, before, after


@dataclass(frozen=True)
class _Fault:
    """What is wrong with a graph in half."""

    node: str
    """The node that onnxruntime names; empty where it names none."""
    words: str


class _Trials:
    """Runs graphs on the example, and says what goes wrong in half.

    Args:
        model: in float32, whose outputs are right.
        context: the example, and the process apart.
    """

    def __init__(self, model: ir.Model, context: Context) -> None:
        self._context = context
        self._expected = self._outputs(model) if context.example else {}

    def fault(self, model: ir.Model) -> _Fault | None:
        """Run a graph, as it is in this process and optimized in one of its own."""
        try:
            outputs = self._outputs(model)
        except Exception as error:  # noqa: BLE001 (onnxruntime has one class for each status code)
            name = node_named_by_runtime(error) or ""
            return _Fault(name, "onnxruntime does not run the graph with it in float16")
        if any(_spoilt(wanted, outputs[name]) for name, wanted in self._expected.items()):
            return _Fault("", "in float16 it makes outputs that are not finite")
        if self._dies(model):
            return _Fault("", "onnxruntime's optimizer dies on nodes of its form in float16")
        return None

    def _outputs(self, model: ir.Model) -> Arrays:
        session = runtime.session_of(model)
        return runtime.run(session, self._context.example) if self._context.example else {}

    def _dies(self, model: ir.Model) -> bool:
        """Return whether a graph ends the process that runs it."""
        if self._context.apart is None or not self._context.example:
            return False
        with runtime.in_file(model) as path:
            feeds = path.with_name("feeds.npz")
            np.savez(feeds, allow_pickle=False, **self._context.example)
            return self._context.apart(path, feeds, self._context.threads) is None


def _spoilt(expected: NDArray[Any], given: NDArray[Any]) -> bool:
    """Return whether numbers are finite where they should be."""
    if expected.dtype.kind != "f" or expected.shape != given.shape:
        return False
    return bool((np.isfinite(expected) & ~np.isfinite(given)).any())


def _converted(model: ir.Model, kept: Collection[str]) -> ir.Model:
    copy = model.clone()
    retype(copy, _HALF, [node for node in copy.graph.all_nodes() if node.name in kept])
    return copy


def _other_types(node: ir.Node) -> str:
    """Name the types of a node's weights where none of them is float32."""
    operator = operator_of(node)
    values = [operand(node, slot) for slot in operator.weights] if operator is not None else []
    types = {value.dtype for value in values if value is not None and value.is_initializer()}
    found = {each.name.lower() for each in types if each is not None and each.is_floating_point()}
    return "" if "float" in found else ", ".join(sorted(found))


def _changes(
    model: ir.Model, kept: Collection[str], what: str = "weights and arithmetic"
) -> list[LayerChange]:
    """Report each float32 weight of a node that is converted."""
    changes = []
    for node in model.graph.all_nodes():
        operator = operator_of(node)
        if operator is None or node.name in kept:
            continue
        for slot in operator.weights:
            value = operand(node, slot)
            if value is None or not value.is_initializer() or value.dtype != ir.DataType.FLOAT:
                continue
            array = constant(value)
            half, stored = array.astype(np.float16), stored_as(model, array)
            words = "arithmetic" if what != _STORED and stored == half.dtype else what
            changes.append(
                LayerChange(
                    node=str(node.name),
                    operator=node.op_type,
                    change=f"{words} float32 → float16",
                    bytes_before=array.size * stored.itemsize,
                    bytes_after=half.nbytes,
                    sqnr_db=sqnr_db(array, half.astype(np.float32)),
                )
            )
    return changes
