"""Fake quantization: QuantizeLinear and DequantizeLinear as one straight-through function."""

from functools import partial

import onnx_ir as ir

from workers.compression.executor.fusions.idiom import Fusion, MatchContext, number
from workers.compression.executor.operators.quantization import RANGES, fake_quantize
from workers.compression.graph.operators import operand


def fake(node: ir.Node, _context: MatchContext) -> Fusion | None:
    """Match a DequantizeLinear after a QuantizeLinear with the same scale and zero point.

    A Clip of the integers may stand between the two: its limits then become the limits of the fake
    quantization, so that the scale has a gradient beyond them too. If the QuantizeLinear has other
    readers, it is computed for them as well.
    """
    if node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return None
    producer = node.inputs[0].producer()
    clip = producer if producer is not None and producer.op_type == "Clip" else None
    if clip is not None and (rounded := operand(clip, 0)) is not None:
        producer = rounded.producer()
    if producer is None or producer.op_type != "QuantizeLinear" or producer.graph is not node.graph:
        return None
    same_grid = list(producer.inputs[1:]) == list(node.inputs[1:])
    same_attributes = all(
        producer.attributes.get_int(name, default) == node.attributes.get_int(name, default)
        for name, default in (("axis", 1), ("block_size", 0))
    )
    zero = operand(producer, 2)
    declared = ir.DataType(producer.attributes.get_int("output_dtype", 0) or ir.DataType.UINT8)
    kind = declared if zero is None else zero.dtype
    if not (same_grid and same_attributes) or kind not in RANGES:
        return None
    limits = RANGES[kind] if clip is None else _clipped_range(clip, RANGES[kind])
    return (
        None if limits is None else Fusion(partial(fake_quantize, *limits), tuple(producer.inputs))
    )


def _clipped_range(clip: ir.Node, limits: tuple[int, int]) -> tuple[int, int] | None:
    """Return the smallest and largest integer after a Clip; None if a bound is not constant."""
    bounds = []
    for slot, default in enumerate(limits, start=1):
        operand_value = operand(clip, slot)
        bound = default if operand_value is None else number(operand_value)
        if bound is None:
            return None
        bounds.append(int(bound))
    return max(bounds[0], limits[0]), min(bounds[1], limits[1])
