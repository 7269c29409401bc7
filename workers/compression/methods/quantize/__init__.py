"""Quantization: fewer bits for weights and activations."""

from collections.abc import Callable
from typing import assert_never

import onnx_ir as ir

from app.domain.steps import Quantize
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.auto import quantize_auto
from workers.compression.methods.quantize.dynamic import quantize_dynamic
from workers.compression.methods.quantize.float16 import convert_to_float16
from workers.compression.methods.quantize.learned import store_learned
from workers.compression.methods.quantize.qat import quantize_aware
from workers.compression.methods.quantize.static import quantize_static
from workers.compression.methods.quantize.storing import store_weights
from workers.compression.methods.quantize.weight_only import quantize_weights
from workers.compression.samples.context import Context

Method = Callable[[ir.Model, Quantize, Context, Callable[[float], None]], Outcome]


def quantize(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Quantize a graph in the mode that the parameters name.

    Raises:
        StepFailed: the mode needs data, or a newer opset.
    """
    method: Method
    match parameters.mode:
        case "auto":
            method = quantize_auto
        case "static":
            method = quantize_static
        case "qat":
            method = quantize_aware
        case "dynamic":
            method = quantize_dynamic
        case "weight_only":
            method = _weight_only(parameters)
        case "float16":
            method = convert_to_float16
        case mode:
            assert_never(mode)
    return method(model, parameters, context, advance)


def _weight_only(parameters: Quantize) -> Method:
    """Return what stores weights: packed as they run, or unpacked when a session opens."""
    if parameters.unpack == "run":
        return quantize_weights
    return store_weights if parameters.ratio is None else store_learned
