"""Quantize and Dequantize as torch's own operators, which converters of exported programs read.

A graph that is exported for another runtime has ``Quantize`` and ``Dequantize`` of the domain
``planish.exact`` instead of the standard's pairs, so that no fusion merges the two roundings.
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
    """Quantize: QuantizeLinear with a constant scale and zero point."""
    grid, per_channel = _grid(node)
    operator = _Q.quantize_per_channel.default if per_channel else _Q.quantize_per_tensor.default
    return partial(_call, operator, grid)


def dequantize(node: Node) -> Function:
    """Dequantize: DequantizeLinear with a constant scale and zero point."""
    grid, per_channel = _grid(node)
    operator = (
        _Q.dequantize_per_channel.default if per_channel else _Q.dequantize_per_tensor.default
    )
    return partial(_call, operator, grid)


def _call(operator: Any, grid: tuple[Any, ...], x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = operator(x, *grid)
    return result


def _grid(node: Node) -> tuple[tuple[Any, ...], bool]:
    """Bind scale and zero point.

    Returns:
        The arguments of torch's operator after the data, and whether there is a scale for each
        channel.
    """
    scale, zero, kind = node.constant(1), node.constant(2), node.dtype(2)
    if scale is None or zero is None or kind not in RANGES:
        raise Unsupported(f"{node.op_type} with computed or missing parameters")
    node.bound |= {1, 2}
    low, high = RANGES[kind]
    dtype = TORCH[kind]
    if scale.size == 1:
        return (float(scale.item()), int(zero.item()), low, high, dtype), False
    axis = node.integer("axis", 1) % (node.rank(0) or 1)
    scales = to_torch(scale.astype(np.float32))
    return (scales, to_torch(zero.astype(np.int64)), axis, low, high, dtype), True
