"""Half precision: weights and arithmetic in float16, inputs and outputs as they were.

The conversion is onnxruntime's (``onnxruntime.transformers.float16``). Operators that have no
float16 form, nodes that onnxruntime refuses in that form, and those named in ``ignore`` stay in
float32 between Casts.
"""

import re
import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxruntime.transformers import float16

from app.domain.problems import StepFailed
from app.domain.reports import LayerChange
from app.domain.steps import Quantize, Skipped
from workers.compression.graph import runtime
from workers.compression.graph.editor import constant
from workers.compression.graph.load import INLINE_LIMIT, save
from workers.compression.graph.operators import operand, operator_of
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.outcome import Outcome
from workers.compression.samples.context import Context, Feeds

_LARGEST = 65504.0

_NAMED = re.compile(r"(?:Name:|node with name |Node \()'?([^')]+)[')]")
"""How onnxruntime names a node that it cannot run, or has no kernel for."""


def convert_to_float16(model: ir.Model, parameters: Quantize, context: Context) -> Outcome:
    """Convert a graph to half precision.

    Raises:
        StepFailed: the graph holds more than 2 GiB of weights, or onnxruntime dies on it.
    """
    weights = [v for v in model.graph.initializers.values() if v.const_value is not None]
    if sum(value.const_value.nbytes for value in weights if value.const_value) > INLINE_LIMIT:
        raise StepFailed("float16 converts graphs of up to 2 GiB of weights.")
    nodes = {str(node.name): node for node in model.graph.all_nodes()}
    blocked = set(float16.DEFAULT_OP_BLOCK_LIST)
    skipped = [s for name, node in nodes.items() if (s := parameters.skip(name, node.op_type))]
    skipped += [
        Skipped(node=name, reason=f"{node.op_type} has no float16 form")
        for name, node in nodes.items()
        if node.op_type in blocked
    ]
    if context.apart is None and context.example:
        reason = (
            "onnxruntime may die on it in float16, before a product, which cannot be tried here"
        )
        skipped += [
            Skipped(node=n, reason=reason) for n in nodes if _is_turned_for_product(nodes[n])
        ]
    others = [
        Skipped(node=name, reason=f"its weights are {dtypes}, not float32")
        for name, node in nodes.items()
        if (dtypes := _other_types(node))
    ]
    while True:
        kept = {each.node for each in skipped}
        changes = _changes(model, kept)
        if not changes:
            return Outcome(model, [], skipped + others)
        converted = _converted(model, blocked, kept)
        refused = _refused(converted, context.example)
        if refused in nodes.keys() - kept:
            reason = f"onnxruntime runs no {nodes[refused].op_type} of this form in float16"
            skipped.append(Skipped(node=refused, reason=reason))
            continue
        if not _dies(converted, model, context):
            return Outcome(converted, changes, skipped + others)
        mortal = [name for name in nodes.keys() - kept if _is_turned_for_product(nodes[name])]
        if not mortal:
            raise StepFailed(
                "onnxruntime dies on this graph in float16: name nodes that are to stay in float32"
                " in 'ignore', or take another mode."
            )
        reason = "onnxruntime's optimizer dies on it in float16, before a product"
        skipped += [Skipped(node=name, reason=reason) for name in sorted(mortal)]


def _dies(model: ir.Model, original: ir.Model, context: Context) -> bool:
    """Return whether a graph ends the process that runs it, optimized, as its original does not."""
    if context.apart is None or not context.example:
        return False
    with tempfile.TemporaryDirectory() as scratch:
        path, feeds = Path(scratch) / "tried.onnx", Path(scratch) / "feeds.npz"
        np.savez(feeds, allow_pickle=False, **context.example)
        for each in (model, original):
            save(each, path)
            if context.apart(path, feeds, context.threads) is not None:
                return each is original
    return False


def _is_turned_for_product(node: ir.Node) -> bool:
    """Return whether a MatMul reads a Transpose: onnxruntime (1.32) fuses both."""
    readers = node.outputs[0].consumers()
    return node.op_type == "Transpose" and any(each.op_type == "MatMul" for each in readers)


def _other_types(node: ir.Node) -> str:
    """Name the types of a node's weights where none of them is float32."""
    operator = operator_of(node)
    values = [operand(node, slot) for slot in operator.weights] if operator is not None else []
    types = {value.dtype for value in values if value is not None and value.is_initializer()}
    found = {each.name.lower() for each in types if each is not None and each.is_floating_point()}
    return "" if "float" in found else ", ".join(sorted(found))


def _converted(model: ir.Model, blocked: Collection[str], kept: Collection[str]) -> ir.Model:
    return _typed(
        float16.convert_float_to_float16(
            ir.serde.serialize_model(model),
            keep_io_types=True,
            disable_shape_infer=False,
            op_block_list=sorted(blocked),
            node_block_list=sorted(kept),
        )
    )


def _refused(model: ir.Model, example: Feeds) -> str:
    """Return the node that onnxruntime names when it cannot run a graph; else nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "tried.onnx"
        save(model, path)
        try:
            session = runtime.open_session(path)
            if example:
                runtime.run(session, example)
        except Exception as error:  # noqa: BLE001 (onnxruntime has one class for each status code)
            found = _NAMED.search(str(error))
            return found[1] if found else ""
    return ""


def _typed(converted: onnx.ModelProto) -> ir.Model:
    """Replace the converter's types of intermediate values, some of them wrong, by inferred ones.

    They must be there: onnxruntime's optimizer dies on some half-precision graphs without.
    """
    del converted.graph.value_info[:]
    model = ir.serde.deserialize_model(converted)
    passes.TopologicalSortPass()(model)
    inferred = onnx.shape_inference.infer_shapes(ir.serde.serialize_model(model), data_prop=True)
    return ir.serde.deserialize_model(inferred)


def _changes(model: ir.Model, kept: set[str]) -> list[LayerChange]:
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
            half = array.clip(-_LARGEST, _LARGEST).astype("float16")
            changes.append(
                LayerChange(
                    node=str(node.name),
                    operator=node.op_type,
                    change="weights and arithmetic float32 → float16",
                    bytes_before=array.nbytes,
                    bytes_after=half.nbytes,
                    sqnr_db=sqnr_db(array, half.astype("float32")),
                )
            )
    return changes
