"""Idioms that exporters spell out in several nodes and that torch computes in one."""

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from workers.compression.executor.node import Node
from workers.compression.executor.operators.quantization import fake_quantize
from workers.compression.executor.plan import Function


@dataclass(frozen=True)
class Fusion:
    """One function for the last node of an idiom and those before it.

    Attributes:
        build: gets a node whose inputs are ``inputs``.
        inputs: what the idiom reads.
    """

    build: Callable[[Node], Function]
    inputs: tuple[ir.Value | None, ...]


def find(graph: ir.Graph, wanted: set[ir.Value], opset: int) -> dict[ir.Node, Fusion]:
    """Return the idioms of a graph by their last nodes.

    Args:
        graph: not changed.
        wanted: values that are returned: they are computed even when an idiom skips them.
        opset: the version of the standard domain.
    """
    del wanted, opset
    found = {}
    for node in graph:
        for match in _IDIOMS:
            fusion = match(node)
            if fusion is not None:
                found[node] = fusion
                break
    return found


def _quantization(node: ir.Node) -> Fusion | None:
    """QuantizeLinear and DequantizeLinear of the same scale and zero point."""
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
    kind = node.inputs[0].dtype
    if not (same and alike) or kind is None or not kind.is_integer():
        return None
    return Fusion(fake_quantize, tuple(before.inputs))


_IDIOMS = (_quantization,)
