"""Half precision: weights and arithmetic in float16, inputs and outputs as they were.

The conversion is onnxruntime's (``onnxruntime.transformers.float16``). Operators that have no
float16 form, and nodes named in ``ignore``, stay in float32 between Casts.
"""

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxruntime.transformers import float16

from app.domain.problems import StepFailed
from app.domain.reports import LayerChange
from app.domain.steps import Quantize, Skipped
from workers.compression.graph.editor import constant
from workers.compression.graph.load import INLINE_LIMIT
from workers.compression.graph.operators import operand, operator_of
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.outcome import Outcome

_LARGEST = 65504.0


def convert_to_float16(model: ir.Model, parameters: Quantize) -> Outcome:
    """Convert a graph to half precision.

    Raises:
        StepFailed: the graph holds more than 2 GiB of weights.
    """
    weights = [v for v in model.graph.initializers.values() if v.const_value is not None]
    if sum(value.const_value.nbytes for value in weights if value.const_value) > INLINE_LIMIT:
        raise StepFailed("float16 converts graphs of up to 2 GiB of weights.")
    nodes = list(model.graph.all_nodes())
    blocked = set(float16.DEFAULT_OP_BLOCK_LIST)
    skipped = [s for node in nodes if (s := parameters.skip(str(node.name), node.op_type))]
    skipped += [
        Skipped(node=str(node.name), reason=f"{node.op_type} has no float16 form")
        for node in nodes
        if node.op_type in blocked
    ]
    changes = _changes(model, {each.node for each in skipped})
    if not changes:
        return Outcome(model, [], skipped)
    converted = float16.convert_float_to_float16(
        ir.serde.serialize_model(model),
        keep_io_types=True,
        disable_shape_infer=False,
        op_block_list=sorted(blocked),
        node_block_list=sorted({each.node for each in skipped}),
    )
    return Outcome(_typed(converted), changes, skipped)


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
