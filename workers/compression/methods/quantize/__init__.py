"""Quantization: fewer bits for weights and activations."""

from collections.abc import Callable
from typing import assert_never

import onnx_ir as ir

from app.domain.steps import Quantize
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.dynamic import quantize_dynamic
from workers.compression.methods.quantize.float16 import convert_to_float16
from workers.compression.methods.quantize.qat import quantize_aware
from workers.compression.methods.quantize.static import quantize_static
from workers.compression.methods.quantize.stored import store_weights
from workers.compression.methods.quantize.weight_only import quantize_weights
from workers.compression.samples.context import Context


def quantize(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Quantize a graph as the parameters say.

    Raises:
        StepFailed: the mode needs what is not there: data, a newer opset, a smaller model.
    """
    match parameters.mode:
        case "static":
            return quantize_static(model, parameters, context, advance)
        case "qat":
            return quantize_aware(model, parameters, context, advance)
        case "dynamic":
            return quantize_dynamic(model, parameters, context)
        case "weight_only" if parameters.unpack == "load":
            return store_weights(model, parameters, context, advance)
        case "weight_only":
            return quantize_weights(model, parameters, context, advance)
        case "float16":
            return convert_to_float16(model, parameters, context)
        case mode:
            assert_never(mode)
