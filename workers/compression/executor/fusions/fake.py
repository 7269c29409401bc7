"""Quantization that is taken back at once: rounding with a straight-through gradient."""

from functools import partial

import onnx_ir as ir

from workers.compression.executor.fusions.idiom import Fusion, Surroundings
from workers.compression.executor.operators.quantization import RANGES, fake_quantize
from workers.compression.graph.operators import operand


def fake(node: ir.Node, _around: Surroundings) -> Fusion | None:
    """Match a DequantizeLinear of a QuantizeLinear of the same scale and zero point.

    The QuantizeLinear may have other readers: it is then computed for them.
    """
    if node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return None
    before = node.inputs[0].producer()
    if before is None or before.op_type != "QuantizeLinear" or before.graph is not node.graph:
        return None
    same = list(before.inputs[1:]) == list(node.inputs[1:])
    alike = all(
        before.attributes.get_int(name, default) == node.attributes.get_int(name, default)
        for name, default in (("axis", 1), ("block_size", 0))
    )
    zero = operand(before, 2)
    named = ir.DataType(before.attributes.get_int("output_dtype", 0) or ir.DataType.UINT8)
    kind = named if zero is None else zero.dtype
    if not (same and alike) or kind not in RANGES:
        return None
    return Fusion(partial(fake_quantize, kind), tuple(before.inputs))
