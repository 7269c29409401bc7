"""Lifts a graph that is not in normal form to the opset that quantized tensors need."""

import onnx_ir as ir

from workers.compression.graph.rewrites.opset import lift_opset

PER_CHANNEL = 13
"""The first opset whose DequantizeLinear has a scale for each channel."""


def at_least(model: ir.Model, opset: int) -> ir.Model:
    """Return the graph at ``opset`` or newer, or as it is where no converter can do it."""
    if model.graph.opset_imports.get("", 0) >= opset:
        return model
    copy = model.clone()
    try:
        lift_opset(copy)
    except Exception:  # noqa: BLE001 (the converters have no error of their own)
        return model
    return copy
