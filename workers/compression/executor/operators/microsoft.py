"""Operators of the domain com.microsoft: onnxruntime's optimizer fuses several nodes into one.

They are described in onnxruntime's ``docs/ContribOperators.md``.
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.node import Node, Unsupported
from workers.compression.executor.plan import Function


def bias_gelu(_node: Node) -> Function:
    """BiasGelu: an exact Gelu of the sum of data and a bias over the last axis."""
    return _bias_gelu


def _bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(x + bias)


def fast_gelu(_node: Node) -> Function:
    """FastGelu: a Gelu by tanh of data, to which a bias over the last axis may be added."""
    return _fast_gelu


def _fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


def quick_gelu(node: Node) -> Function:
    """QuickGelu: ``x sigmoid(alpha x)``."""
    return partial(_quick_gelu, node.real("alpha", 1.702))


def _quick_gelu(alpha: float, x: Tensor) -> Tensor:
    return x * torch.sigmoid(alpha * x)


def fused_matmul(node: Node) -> Function:
    """FusedMatMul: a product of matrices, each transposed or not, times a number."""
    if node.integer("transBatchA") or node.integer("transBatchB"):
        raise Unsupported("FusedMatMul that turns axes of the batch")
    transpose_a, transpose_b = bool(node.integer("transA")), bool(node.integer("transB"))
    return partial(_fused_matmul, node.real("alpha", 1.0), transpose_a, transpose_b)


def _fused_matmul(
    alpha: float, transpose_a: bool, transpose_b: bool, a: Tensor, b: Tensor
) -> Tensor:
    # the transposition of one axis alone is that axis
    a = a.transpose(-2, -1) if transpose_a and a.ndim > 1 else a
    b = b.transpose(-2, -1) if transpose_b and b.ndim > 1 else b
    product = a @ b
    return product if alpha == 1 else product * alpha


def skip_layer_normalization(node: Node) -> Function:
    """SkipLayerNormalization: LayerNormalization of the sum of two tensors and maybe a bias."""
    _refuse_statistics(node)
    return partial(_skip_layer_normalization, node.real("epsilon", 1e-12))


def _skip_layer_normalization(
    epsilon: float,
    x: Tensor,
    skip: Tensor,
    scale: Tensor,
    shift: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, None, None, Tensor]:
    total = _total(x, skip, bias)
    return F.layer_norm(total, total.shape[-1:], scale, shift, epsilon), None, None, total


def skip_rms_normalization(node: Node) -> Function:
    """SkipSimplifiedLayerNormalization: SkipLayerNormalization without mean and shift."""
    _refuse_statistics(node)
    return partial(_skip_rms_normalization, node.real("epsilon", 1e-12))


def _skip_rms_normalization(
    epsilon: float, x: Tensor, skip: Tensor, scale: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, None, None, Tensor]:
    total = _total(x, skip, bias)
    return F.rms_norm(total, total.shape[-1:], scale, epsilon), None, None, total


def _total(x: Tensor, skip: Tensor, bias: Tensor | None) -> Tensor:
    return x + skip if bias is None else x + skip + bias


def _refuse_statistics(node: Node) -> None:
    if node.is_read(1) or node.is_read(2):
        raise Unsupported(f"{node.op_type} that gives mean or deviation")
