"""QuantizeLinear and DequantizeLinear, with straight-through gradients."""

from functools import partial
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from workers.compression.executor.dtypes import TORCH
from workers.compression.executor.node import Node, Unsupported
from workers.compression.executor.plan import Function

RANGES: dict[ir.DataType, tuple[int, int]] = {
    ir.DataType.INT2: (-2, 1),
    ir.DataType.UINT2: (0, 3),
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT16: (-32768, 32767),
    ir.DataType.UINT16: (0, 65535),
}


def quantize(node: Node) -> Function:
    """QuantizeLinear to integers: ``clamp(round(x / scale) + zero)``, half to even.

    Integers have no gradient. A QuantizeLinear that a DequantizeLinear follows is fused with it
    into a function that has one; see ``fusions/fake``.
    """
    kind = _target(node)
    node.no_gradient_reason = "no DequantizeLinear follows at once"
    low, high = RANGES[kind]
    function = partial(_quantize, low, high, TORCH[kind])
    return partial(function, node.integer("axis", 1), node.integer("block_size"))


def _quantize(
    low: int,
    high: int,
    dtype: torch.dtype,
    axis: int,
    block: int,
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
) -> Tensor:
    scale = broadcastable(scale, x, axis, block)
    y = (x / scale).round().to(torch.float32)
    if zero is not None:
        y = y + broadcastable(zero, x, axis, block).to(y.dtype)
    return y.clamp(low, high).to(dtype)


def dequantize(node: Node) -> Function:
    """DequantizeLinear of integers: ``(q - zero) scale``; differentiable in the scale."""
    kind = node.dtype(0) or node.dtype(2)
    if kind not in RANGES and kind != ir.DataType.INT32:
        raise Unsupported(f"DequantizeLinear of {kind}")
    return partial(_dequantize, node.integer("axis", 1), node.integer("block_size"))


def _dequantize(
    axis: int, block: int, q: Tensor, scale: Tensor, zero: Tensor | None = None
) -> Tensor:
    broadcast_scale = broadcastable(scale, q, axis, block)
    y = q.to(broadcast_scale.dtype)
    if zero is not None:
        y = y - broadcastable(zero, q, axis, block).to(y.dtype)
    return y * broadcast_scale


def fake_quantize(low: int, high: int, node: Node) -> Function:
    """QuantizeLinear to integers in ``[low, high]`` and DequantizeLinear, as one function.

    It is differentiable in data and scale.
    """
    zero = node.constant(2)
    if zero is not None and zero.size and not zero.any():
        node.bound.add(2)
    return partial(_fake_quantize, low, high, node.integer("axis", 1), node.integer("block_size"))


def _fake_quantize(
    low: int,
    high: int,
    axis: int,
    block: int,
    x: Tensor,
    scale: Tensor,
    zero: Tensor | None = None,
) -> Tensor:
    scale = broadcastable(scale, x, axis, block)
    if zero is None:
        return _Rounded.apply(x, scale, low, high)  # type: ignore[no-any-return, no-untyped-call]
    offset = broadcastable(zero, x, axis, block).to(x.dtype)
    return _Rounded.apply(x, scale, low - offset, high - offset)  # type: ignore[no-any-return, no-untyped-call]


class _Rounded(torch.autograd.Function):
    """``clamp(round(x / s), low, high) s`` with straight-through gradients.

    The gradient of the data passes where the quotient lies within the bounds, and is zero outside
    (Bengio et al. 2013). The gradient of the scale is that of *Learned Step Size Quantization*
    (Esser et al. 2020), without the factor ``1 / sqrt(N high)``: ``round(x / s) - x / s`` within
    the bounds, and the bound outside.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: Any, high: Any) -> Tensor:
        quotient = x / scale
        rounded = quotient.round()
        clamped = rounded.clamp(low, high)
        if ctx.needs_input_grad[1]:
            slope = torch.where(clamped == rounded, clamped - quotient, clamped)
        else:
            slope = None
        ctx.save_for_backward(clamped == rounded, slope)
        ctx.shape = scale.shape
        return clamped * scale

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None, None, None]:
        inside, slope = ctx.saved_tensors
        (grad,) = grads
        to_scale = None
        if slope is not None:
            to_scale = (grad * slope).sum_to_size(ctx.shape)
        return grad * inside, to_scale, None, None


def broadcastable(parameter: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """Reshape a scale or zero point so that it broadcasts to the data.

    Args:
        parameter: one number, or one for each index along ``axis``, or one for each block.
        x: the data.
        axis: the axis of the channels or blocks.
        block: the size of a block; 0 for no blocks.
    """
    if parameter.numel() == 1 and parameter.ndim <= 1:
        return parameter.reshape(())
    if block:
        return parameter.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if parameter.ndim == 1:
        shape = [1] * x.ndim
        shape[axis] = -1
        return parameter.reshape(shape)
    return parameter


def _target(node: Node) -> ir.DataType:
    """Return the integer type that a QuantizeLinear gives."""
    if node.has(2):
        kind = node.dtype(2)
    else:
        kind = ir.DataType(node.integer("output_dtype") or ir.DataType.UINT8)
    if kind not in RANGES:
        raise Unsupported(f"{node.op_type} to {kind}")
    return kind
