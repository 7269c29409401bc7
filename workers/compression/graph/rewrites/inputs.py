"""Take weights off the list of inputs."""

import onnx_ir as ir
import onnx_ir.passes.common as passes

_CONSTANTS = 4
"""The IR version from which on initializers need not be inputs."""


def detach_initializers(model: ir.Model) -> int:
    """Make weights constants that old exporters (IR version 3) also list as inputs.

    1. An input with an initializer is a weight and no input any more.
    2. Inputs without one keep their names and their order.
    3. The IR version is the first one that knows such constants, or newer.
    """
    before = len(model.graph.inputs)
    passes.RemoveInitializersFromInputsPass()(model)
    model.ir_version = max(model.ir_version, _CONSTANTS)
    return before - len(model.graph.inputs)
