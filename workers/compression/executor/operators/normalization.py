"""Normalisations."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.node import Node, Unsupported
from workers.compression.executor.operators.reduction import root
from workers.compression.executor.plan import Function


def batch_normalization(node: Node) -> Function:
    """BatchNormalization, by its statistics or, in training mode, by those of the batch."""
    epsilon, momentum = node.real("epsilon", 1e-5), node.real("momentum", 0.9)
    node.statistics |= {3, 4}
    if node.integer("training_mode"):
        return partial(_batch_normalization_by_batch, epsilon, momentum)
    if node.is_read(1):
        raise Unsupported("BatchNormalization that gives the statistics it is given")
    return partial(_batch_normalization, epsilon)


def _batch_normalization(
    epsilon: float, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    # torch's kernels refuse statistics with a gradient
    return torch.batch_norm(
        x, scale, shift, mean.detach(), variance.detach(), False, 0.0, epsilon, True
    )


def _batch_normalization_by_batch(
    epsilon: float,
    momentum: float,
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the result and the running statistics, which have no gradient.

    The running variance takes the biased variance of the batch, as ONNX defines it; torch would
    take the unbiased one.
    """
    y, batch_mean, inverse_deviation = torch.native_batch_norm(
        x, scale, shift, None, None, True, 0.0, epsilon
    )
    batch_variance = (
        (inverse_deviation.detach().double() ** -2 - epsilon).clamp(min=0).to(variance.dtype)
    )
    return (
        y,
        torch.lerp(batch_mean.detach().to(mean.dtype), mean.detach(), momentum),
        torch.lerp(batch_variance, variance.detach(), momentum),
    )


def instance_normalization(node: Node) -> Function:
    """InstanceNormalization."""
    return partial(_instance_normalization, node.real("epsilon", 1e-5))


def _instance_normalization(epsilon: float, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.group_norm(x, x.shape[1], scale, shift, epsilon)


def group_normalization(node: Node) -> Function:
    """GroupNormalization: scale and shift for each channel."""
    groups, epsilon = node.integer("num_groups"), node.real("epsilon", 1e-5)
    return partial(_group_normalization, groups, epsilon)


def _group_normalization(
    groups: int, epsilon: float, x: Tensor, scale: Tensor, shift: Tensor
) -> Tensor:
    return F.group_norm(x, groups, scale, shift, epsilon)


def layer_normalization(node: Node) -> Function:
    """LayerNormalization over ``axis`` and all later axes.

    Mean and inverse standard deviation are computed if they are read.
    """
    axis, epsilon = node.integer("axis", -1), node.real("epsilon", 1e-5)
    if node.is_read(1) or node.is_read(2):
        return partial(_layer_normalization_with_statistics, axis, epsilon)
    return partial(_layer_normalization, axis, epsilon)


def _layer_normalization(
    axis: int, epsilon: float, x: Tensor, scale: Tensor, shift: Tensor | None = None
) -> Tensor:
    shape = x.shape[axis:]
    if scale.shape == shape and (shift is None or shift.shape == shape):
        return torch.layer_norm(x, shape, scale, shift, epsilon)
    y = torch.layer_norm(x, shape, None, None, epsilon) * scale
    return y if shift is None else y + shift


def _layer_normalization_with_statistics(
    axis: int, epsilon: float, x: Tensor, scale: Tensor, shift: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    axes = tuple(range(axis % x.ndim, x.ndim))
    mean = x.mean(axes, keepdim=True)
    variance = x.var(axes, unbiased=False, keepdim=True)
    return _layer_normalization(axis, epsilon, x, scale, shift), mean, (variance + epsilon).rsqrt()


def rms_normalization(node: Node) -> Function:
    """RMSNormalization over ``axis`` and later."""
    if node.is_read(1):
        raise Unsupported(f"{node.op_type} that gives the inverse deviation")
    return partial(_rms_normalization, node.integer("axis", -1), node.real("epsilon", 1e-5))


def _rms_normalization(axis: int, epsilon: float, x: Tensor, scale: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[axis:], None, epsilon) * scale


def local_response(node: Node) -> Function:
    """LRN: divide by a power of the sum of squares over ``size`` neighbouring channels."""
    return partial(
        _local_response,
        node.integer("size"),
        node.real("alpha", 1e-4),
        node.real("beta", 0.75),
        node.real("bias", 1.0),
    )


def _local_response(size: int, alpha: float, beta: float, bias: float, x: Tensor) -> Tensor:
    begin, end = (size - 1) // 2, size - 1 - (size - 1) // 2
    squares = (x * x).flatten(2).transpose(1, 2)
    padded = F.pad(squares, [begin, end])
    sums = padded.unfold(-1, size, 1).sum(-1).transpose(1, 2).reshape(x.shape)
    return x / (bias + alpha / size * sums) ** beta


def lp_normalization(node: Node) -> Function:
    """LpNormalization: divide by the norm along an axis; a vector of zeros stays zero."""
    return partial(_lp_normalization, node.integer("p", 2), node.integer("axis", -1))


def _lp_normalization(power: int, axis: int, x: Tensor) -> Tensor:
    size = x.norm(power, axis, keepdim=True)
    return x / torch.where(size == 0, torch.ones_like(size), size)


def mean_variance(node: Node) -> Function:
    """MeanVarianceNormalization."""
    return partial(_mean_variance, node.integers("axes") or (0, 2, 3))


def _mean_variance(axes: Sequence[int], x: Tensor) -> Tensor:
    centred = x - x.mean(tuple(axes), keepdim=True)
    return centred / (root((centred * centred).mean(tuple(axes), keepdim=True)) + 1e-9)
