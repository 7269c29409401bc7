"""Where a file's figures hold, and which of its integer layers may saturate elsewhere.

Without VNNI, processors of x86-64 multiply uint8 by int8 with ``vpmaddubsw``, which adds two
neighbouring products in sixteen bits. Two large weights of one sign make that sum saturate. Weights
of seven bits cannot (onnxruntime calls that a reduced range).
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.reports import Portability
from workers.compression.graph.operators import channel_axis, operand, operator_of
from workers.compression.graph.weights import stored
from workers.compression.measure.machine import machine, torch_device

_SAFE_SUM = 128
"""The largest sum of two weights that 255 can multiply: 255 · 129 exceeds 32,767."""

_INTEGERS = (ir.DataType.INT8, ir.DataType.UINT8)
_GATHERS = ("Gather",)


def portability(model: ir.Model) -> Portability:
    """Return where a graph was measured, and its layers that may saturate without VNNI.

    Args:
        model: the graph that is delivered.
    """
    instruction_sets = machine(torch_device()).instruction_sets
    layers = list[str]()
    saturating = list[str]()
    for node in model.graph.all_nodes():
        matrix = _integers(node)
        if matrix is None:
            continue
        layers.append(str(node.name))
        if may_saturate(matrix):
            saturating.append(str(node.name))
    return Portability(
        measured_on=instruction_sets, integer_layers=len(layers), may_saturate=saturating
    )


def may_saturate(matrix: NDArray[np.int16]) -> bool:
    """Return whether two neighbouring products of uint8 and int8 may exceed sixteen bits.

    Args:
        matrix: integer weights around their zero point, ``[outputs, inputs]``.
    """
    even = matrix[:, : matrix.shape[1] // 2 * 2]
    pairs = even[:, 0::2] + even[:, 1::2]
    return bool((np.abs(pairs) > _SAFE_SUM).any())


def _integers(node: ir.Node) -> NDArray[np.int16] | None:
    """Return a layer's integer weights, ``[outputs, inputs]`` with channels innermost; else None.

    Layers that read floats are left out: their integers are multiplied by scales first.
    """
    operator = operator_of(node)
    if operator is None or not operator.weights or node.op_type in _GATHERS:
        return None
    weight = stored(operand(node, operator.weights[0]))
    data = operand(node, 0)
    if weight is None or weight.tensor.dtype not in _INTEGERS or not _is_integer(data):
        return None
    array = weight.tensor.numpy().astype(np.int16)
    if weight.tensor.dtype == ir.DataType.UINT8:
        array = array - np.int16(128)
    if array.ndim < 2:
        return None
    outputs_first = np.moveaxis(array, channel_axis(node) or 0, 0)
    if array.ndim > 2:  # kernels read channels innermost
        outputs_first = np.moveaxis(outputs_first, 1, -1)
        if outputs_first.shape[-1] == 1:  # depthwise kernels add in 32 bits
            return None
    return outputs_first.reshape(len(outputs_first), -1)


def _is_integer(value: ir.Value | None) -> bool:
    """Return whether a value comes from integers: through DequantizeLinear, or as they are."""
    if value is None:
        return False
    node = value.producer()
    if node is not None and node.op_type == "DequantizeLinear":
        return True
    return value.dtype in _INTEGERS or (
        node is not None and node.op_type in ("DynamicQuantizeLinear", "QuantizeLinear")
    )
