"""Activations."""

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.node import Node
from workers.compression.executor.plan import Function


def clip(node: Node) -> Function:
    """Clip, to constant or computed bounds."""
    bounds: list[float | None] = []
    for slot in (1, 2):
        value = node.constant(slot)
        if value is None and node.has(slot):
            return _clip
        bounds.append(None if value is None else value.astype(object).item())
    node.bound |= {1, 2}
    low, high = bounds
    kind = node.dtype(0)
    floats = kind is not None and kind.is_floating_point()
    if floats and low is not None and high is not None and low < high:
        return partial(F.hardtanh, min_val=low, max_val=high)
    if low is None and high is None:
        return torch.positive
    return partial(torch.clamp, min=low, max=high)


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    if low is not None:
        x = torch.maximum(x, low.to(x.device))
    return x if high is None else torch.minimum(x, high.to(x.device))


def leaky_relu(node: Node) -> Function:
    """LeakyRelu."""
    return partial(F.leaky_relu, negative_slope=node.real("alpha", 0.01))


def prelu(_node: Node) -> Function:
    """PRelu: the slope broadcasts to the data."""
    return _prelu


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def elu(node: Node) -> Function:
    """Elu."""
    return partial(F.elu, alpha=node.real("alpha", 1.0))


def celu(node: Node) -> Function:
    """Celu."""
    return partial(F.celu, alpha=node.real("alpha", 1.0))


def selu(node: Node) -> Function:
    """Selu: ``gamma (x if x > 0 else alpha (exp x - 1))``."""
    alpha = node.real("alpha", 1.67326319217681884765625)
    gamma = node.real("gamma", 1.05070102214813232421875)
    return partial(_selu, alpha, gamma)


def _selu(alpha: float, gamma: float, x: Tensor) -> Tensor:
    return gamma * F.elu(x, alpha)


def thresholded_relu(node: Node) -> Function:
    """ThresholdedRelu."""
    return partial(F.threshold, threshold=node.real("alpha", 1.0), value=0.0)


def shrink(node: Node) -> Function:
    """Shrink: values within ``lambd`` of zero become zero, others move towards it by ``bias``."""
    return partial(_shrink, node.real("lambd", 0.5), node.real("bias", 0.0))


def _shrink(width: float, bias: float, x: Tensor) -> Tensor:
    return torch.where(x < -width, x + bias, torch.where(x > width, x - bias, torch.zeros_like(x)))


def hard_sigmoid(node: Node) -> Function:
    """HardSigmoid: ``clip(alpha x + beta, 0, 1)``; torch has it for 1/6 and 1/2."""
    alpha, beta = node.real("alpha", 0.2), node.real("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return F.hardsigmoid
    return partial(_hard_sigmoid, alpha, beta)


def _hard_sigmoid(alpha: float, beta: float, x: Tensor) -> Tensor:
    return F.hardtanh(x * alpha + beta, 0.0, 1.0)


def hard_swish(_node: Node) -> Function:
    """HardSwish."""
    return F.hardswish


def swish(node: Node) -> Function:
    """Swish: ``x sigmoid(alpha x)``."""
    alpha = node.real("alpha", 1.0)
    return F.silu if alpha == 1 else partial(_swish, alpha)


def _swish(alpha: float, x: Tensor) -> Tensor:
    return x * torch.sigmoid(alpha * x)


def gelu(node: Node) -> Function:
    """Gelu, exact or by tanh."""
    return partial(F.gelu, approximate=node.text("approximate", "none"))


def softplus(_node: Node) -> Function:
    """Softplus; what torch leaves out of values above 20 is less than float32 keeps of them."""
    return F.softplus


def softmax(node: Node) -> Function:
    """Softmax and LogSoftmax along an axis."""
    axis = node.integer("axis", -1)
    if node.op_type == "LogSoftmax":
        return partial(torch.log_softmax, dim=axis)
    return partial(_softmax, axis, _may_be_masked(node))


def _may_be_masked(node: Node) -> bool:
    """Return whether a mask of minus infinity may have been put on what a node reads.

    A mask is chosen by a Where, or added; what a layer adds is a finite constant.
    """
    value = node.inputs[0]
    producer = None if value is None else value.producer()
    if producer is None or producer.op_type == "Where":
        return True
    constants = [v.const_value for v in producer.inputs if v is not None and v.const_value]
    finite = any(np.isfinite(constant.numpy()).all() for constant in constants)
    return producer.op_type == "Add" and not finite


def _softmax(dim: int, may_be_masked: bool, x: Tensor) -> Tensor:
    """Return the softmax; a row that is all minus infinity, which is padding, becomes zeros.

    By the standard such a row is NaN, and a later node masks it. In the backward pass, zero times
    NaN would make the gradient of every weight NaN. An exported program cannot look at values, so
    what it does depends on the graph.
    """
    exporting = torch.compiler.is_exporting()
    if not exporting or not may_be_masked:
        shares = torch.softmax(x, dim)
        if exporting or not shares.detach().sum().isnan():
            return shares
    all_masked = (x == -torch.inf).all(dim, keepdim=True)
    return torch.softmax(x.masked_fill(all_masked, 0), dim).masked_fill(all_masked, 0)


def hardmax(node: Node) -> Function:
    """Hardmax: one at the first largest value along an axis."""
    return partial(_hardmax, node.integer("axis", -1))


def _hardmax(axis: int, x: Tensor) -> Tensor:
    first = x.argmax(axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, first, 1)
