"""Integer products, computed in float64, which is exact here; they have no gradient."""

from functools import partial

import torch
from torch import Tensor

from workers.compression.executor.node import Node
from workers.compression.executor.operators.convolution import conv
from workers.compression.executor.operators.quantization import broadcastable
from workers.compression.executor.plan import Function


def dynamic_quantize(node: Node) -> Function:
    """DynamicQuantizeLinear: to uint8, by the range of the data extended to zero."""
    node.no_gradient_reason = "it makes integers"
    return _dynamic_quantize


def _dynamic_quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = x.detach()
    high, low = x.max().clamp(min=0), x.min().clamp(max=0)
    scale = torch.where(high == low, torch.ones_like(high), high - low) / 255
    zero = (0 - low / scale).clamp(0, 255).round()
    y = ((x / scale).round() + zero).clamp(0, 255)
    return y.to(torch.uint8), scale, zero.to(torch.uint8)


def matmul_integer(_node: Node) -> Function:
    """MatMulInteger; there may be a zero point for each row or column."""
    return _matmul_integer


def _matmul_integer(
    a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    left, right = a.double(), b.double()
    if a_zero is not None:
        left = left - broadcastable(a_zero.double(), a, -2, 0)
    if b_zero is not None:
        right = right - broadcastable(b_zero.double(), b, -1, 0)
    return (left @ right).to(torch.int32)


def conv_integer(node: Node) -> Function:
    """ConvInteger."""
    return partial(_conv_integer, conv(node))


def _conv_integer(
    convolve: Function,
    x: Tensor,
    w: Tensor,
    x_zero: Tensor | None = None,
    w_zero: Tensor | None = None,
) -> Tensor:
    data, weight = x.double(), w.double()
    if x_zero is not None:
        data = data - x_zero.double()
    if w_zero is not None:
        weight = weight - broadcastable(w_zero.double(), w, 0, 0)
    y: Tensor = convolve(data, weight)
    return y.to(torch.int32)
