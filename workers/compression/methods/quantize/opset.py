"""Lifts a graph to the opset that quantized tensors need."""

import onnx
import onnx.version_converter
import onnx_ir as ir

from workers.compression.graph.load import INLINE_LIMIT

PER_CHANNEL = 13
"""The first opset whose DequantizeLinear has a scale for each channel."""


def at_least(model: ir.Model, opset: int) -> ir.Model:
    """Return the graph at ``opset`` or newer, or as it is where the converter cannot do it."""
    weights = (value.const_value for value in model.graph.initializers.values())
    size = sum(tensor.nbytes for tensor in weights if tensor is not None)
    if model.graph.opset_imports.get("", 0) >= opset or size > INLINE_LIMIT:
        return model
    proto = ir.serde.serialize_model(model)
    try:
        return ir.serde.deserialize_model(onnx.version_converter.convert_version(proto, opset))
    except Exception:  # noqa: BLE001 (the converter has no error of its own)
        return model
