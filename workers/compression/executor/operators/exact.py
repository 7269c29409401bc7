"""Quantization as converters of exported programs read it: torch's own operators, to the step.

A graph that is exported for another runtime has ``Quantize`` and ``Dequantize`` of the domain
``planish.exact`` in place of the standard's pairs, so that no fusion makes one rounding of two.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed

from workers.compression.executor.dtypes import TORCH, to_torch
from workers.compression.executor.node import Node, Unsupported
from workers.compression.executor.operators.quantization import RANGES
from workers.compression.executor.plan import Function

DOMAIN = "planish.exact"

_Q = torch.ops.quantized_decomposed


def quantize(node: Node) -> Function:
    """Quantize: as QuantizeLinear, of a scale and a zero point that are constants."""
    grid, per_channel = _grid(node)
    which = _Q.quantize_per_channel.default if per_channel else _Q.quantize_per_tensor.default
    return partial(_call, which, grid)


def dequantize(node: Node) -> Function:
    """Dequantize: as DequantizeLinear, of a scale and a zero point that are constants."""
    grid, per_channel = _grid(node)
    which = _Q.dequantize_per_channel.default if per_channel else _Q.dequantize_per_tensor.default
    return partial(_call, which, grid)


def _call(which: Any, grid: tuple[Any, ...], x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = which(x, *grid)
    return result


def _grid(node: Node) -> tuple[tuple[Any, ...], bool]:
    """Take scale and zero point; return what follows the data, and whether channels differ."""
    scale, zero, kind = node.constant(1), node.constant(2), node.dtype(2)
    if scale is None or zero is None or kind not in RANGES:
        raise Unsupported(f"a {node.op_type} with computed or missing parameters")
    node.taken |= {1, 2}
    low, high = RANGES[kind]
    dtype = TORCH[kind]
    if scale.size == 1:
        return (float(scale.item()), int(zero.item()), low, high, dtype), False
    axis = node.integer("axis", 1) % (node.rank(0) or 1)
    scales = to_torch(scale.astype(np.float32))
    return (scales, to_torch(zero.astype(np.int64)), axis, low, high, dtype), True
