"""Half precision: weights and arithmetic in float16, inputs and outputs as they were.

A node stays in float32, between Casts, if

1. the request names it, or its operator's schema has no float16;
2. its numbers exceed the range of float16: see ``half_range``;
3. onnxruntime rejects it in float16, or crashes: see ``half_trials``.
"""

from collections.abc import Callable, Collection

import numpy as np
import onnx_ir as ir

from app.domain.reports import LayerChange
from app.domain.steps import Quantize, Skipped
from workers.compression.graph.editor import constant
from workers.compression.graph.fingerprint import fingerprint
from workers.compression.graph.inference import infer
from workers.compression.graph.load import load
from workers.compression.graph.narrow import mark_stored, stored_as, stored_type
from workers.compression.graph.operators import operand, operator_of
from workers.compression.graph.precision import fits, touches_sequence
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.exclusions import (
    costs_little,
    file_bytes,
    is_slower,
    is_trivial,
)
from workers.compression.methods.quantize.half_range import out_of_range
from workers.compression.methods.quantize.half_trials import HALF, Excluded, convert_what_runs
from workers.compression.samples.context import Context

_STORED = "weights stored"

_ONLY_STORED = (
    "Computing in float16 gains no time on this machine, so the model computes in float32: only its"
    " weights are stored in float16."
)
"""It names no speed: the one that counts is that of the file, against the upload."""

_ALREADY = "the model was uploaded in float16"

_COUNTING = ("CumSum", "Range")
_SCALED = ("DequantizeLinear", "QuantizeLinear")


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
    converted = convert_what_runs(model, excluded, context)
    advance(1.0)
    may_stay_float = not parameters.force and not is_trivial(model, context)
    if may_stay_float and is_slower(model, converted, context) is not None:
        stored = _stored_in_half(model.clone(), parameters)
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


def _stored_in_half(model: ir.Model, parameters: Quantize) -> Outcome:
    """Return the graph with weights stored in float16; it computes in float32 as before."""
    ignored = _ignored(model, parameters)
    changes = _changes(model, {refusal.node for refusal in ignored}, _STORED)
    mark_stored(model, ir.DataType.FLOAT16)
    return Outcome(model, changes, ignored, [_ONLY_STORED])


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
    if not any(value is not None and HALF.of(value) for value in (*node.inputs, *node.outputs)):
        return None
    if touches_sequence(node, HALF):
        return "it handles a sequence of float32 tensors, which no Cast converts"
    if node.op_type in _COUNTING:
        return "it may count beyond 2,048, up to which float16 holds every whole number"
    if node.op_type in _SCALED:
        return "int8 kernels read float32 scales"
    if not fits(node, HALF, model.graph.opset_imports.get(node.domain, 1)):
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
