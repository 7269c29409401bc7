"""Quantization that is taken back at once: rounding with a straight-through gradient."""

from functools import partial

import onnx_ir as ir

from workers.compression.executor.fusions.idiom import Fusion, Surroundings, number
from workers.compression.executor.operators.quantization import RANGES, fake_quantize
from workers.compression.graph.operators import operand


def fake(node: ir.Node, _around: Surroundings) -> Fusion | None:
    """Match a DequantizeLinear of a QuantizeLinear of the same scale and zero point.

    A Clip of the integers may stand between them: its ends are those of the rounding then, so that
    the scale is learned there too. The QuantizeLinear may have other readers: it is then computed
    for them.
    """
    if node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return None
    before = node.inputs[0].producer()
    cut = before if before is not None and before.op_type == "Clip" else None
    if cut is not None and (rounded := operand(cut, 0)) is not None:
        before = rounded.producer()
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
    ends = RANGES[kind] if cut is None else _narrowed(cut, RANGES[kind])
    return None if ends is None else Fusion(partial(fake_quantize, *ends), tuple(before.inputs))


def _narrowed(cut: ir.Node, ends: tuple[int, int]) -> tuple[int, int] | None:
    """Return the smallest and largest integer behind a Clip, None where they are not constant."""
    found = []
    for slot, end in enumerate(ends, start=1):
        given = operand(cut, slot)
        bound = end if given is None else number(given)
        if bound is None:
            return None
        found.append(int(bound))
    return max(found[0], ends[0]), min(found[1], ends[1])
