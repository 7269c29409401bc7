"""Converts a graph that is not in normal form to the opset that quantized tensors need."""

import onnx_ir as ir

from app.domain.problems import StepFailed
from app.domain.steps import Quantize
from workers.compression.graph.chance import way_to_newer_opset
from workers.compression.graph.rewrites.opset import lift_opset
from workers.compression.methods.quantize.integers import BITS, STORED_BITS

PER_CHANNEL = 13
"""The first opset whose DequantizeLinear has a scale for each channel."""

_INTEGER_CLIP = 12
"""The first opset whose Clip takes integers."""


def lifted(model: ir.Model, parameters: Quantize) -> ir.Model:
    """Return the graph at opset 13 or newer, or as it is if it cannot be converted.

    Raises:
        StepFailed: the opset stays too old for activations of fewer than eight bits.
    """
    opset = model.graph.opset_imports.get("", 0)
    if opset >= PER_CHANNEL:
        return model
    copy = model.clone()
    try:
        lift_opset(copy)
    except Exception as error:  # the converters have no error of their own
        if opset < _INTEGER_CLIP and BITS.get(parameters.activations, STORED_BITS) < STORED_BITS:
            raise StepFailed(
                f"Activations of fewer than eight bits need opset {_INTEGER_CLIP}; this model has"
                f" {opset}. {way_to_newer_opset(model)}"
            ) from error
        return model
    return copy
