"""Convolutions."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.node import Node, Unsupported
from workers.compression.executor.operators.windows import same_padding, split_padding
from workers.compression.executor.plan import Function

_CONV: dict[int, Callable[..., Tensor]] = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
_TRANSPOSE: dict[int, Callable[..., Tensor]] = {
    1: torch.conv_transpose1d,
    2: torch.conv_transpose2d,
    3: torch.conv_transpose3d,
}


def conv(node: Node) -> Function:
    """Conv: data ``[N, C, ...]``, weight ``[M, C / group, ...]``, perhaps a bias ``[M]``."""
    rank = _spatial(node)
    strides = node.integers("strides") or (1,) * rank
    dilations = node.integers("dilations") or (1,) * rank
    groups, function = node.integer("group", 1), _CONV[rank]
    auto = node.text("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        return partial(_same_conv, function, strides, dilations, groups, upper=auto == "SAME_UPPER")
    pads = (node.integers("pads") if auto == "NOTSET" else None) or (0,) * (2 * rank)
    symmetric, padding = split_padding(pads)
    if padding is not None:
        return partial(_padded_conv, function, padding, strides, dilations, groups)
    return partial(function, stride=strides, padding=symmetric, dilation=dilations, groups=groups)


def conv_transpose(node: Node) -> Function:
    """ConvTranspose: data ``[N, C, ...]``, weight ``[C, M / group, ...]``, perhaps a bias."""
    rank = _spatial(node)
    return partial(
        _conv_transpose,
        _TRANSPOSE[rank],
        node.integers("strides") or (1,) * rank,
        node.integers("dilations") or (1,) * rank,
        node.integer("group", 1),
        node.integers("pads") or (0,) * (2 * rank),
        node.integers("output_padding") or (0,) * rank,
        node.integers("output_shape"),
        node.text("auto_pad", "NOTSET"),
    )


def _spatial(node: Node) -> int:
    rank = node.rank(1) or node.rank(0)
    kernel = node.integers("kernel_shape")
    spatial_rank = len(kernel) if kernel else None if rank is None else rank - 2
    if spatial_rank not in _CONV:
        raise Unsupported(f"{node.op_type} over {spatial_rank} dimensions")
    return spatial_rank


def _padded_conv(
    function: Callable[..., Tensor],
    padding: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    padded = F.pad(x, list(padding))
    return function(padded, weight, bias, strides, 0, dilations, groups)


def _same_conv(
    function: Callable[..., Tensor],
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    upper: bool,
) -> Tensor:
    padding = same_padding(x.shape[2:], weight.shape[2:], strides, dilations, upper=upper)
    return _padded_conv(function, padding, strides, dilations, groups, x, weight, bias)


def _conv_transpose(
    function: Callable[..., Tensor],
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
    pads: Sequence[int],
    output_padding: Sequence[int],
    shape: Sequence[int] | None,
    auto: str,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Compute without padding, then crop: torch crops both ends alike, ONNX may not."""
    rank = len(strides)
    begins, ends = list(pads[:rank]), list(pads[rank:])
    for axis, size in enumerate(x.shape[2:]):
        reach = (weight.shape[2 + axis] - 1) * dilations[axis] + 1
        full = strides[axis] * (size - 1) + output_padding[axis] + reach
        if shape is None and not auto.startswith("SAME"):
            continue
        target = shape[-rank:][axis] if shape is not None else size * strides[axis]
        total = full - target
        small, large = total // 2, total - total // 2
        begins[axis], ends[axis] = (small, large) if auto == "SAME_UPPER" else (large, small)
    if begins == ends and min(begins) >= 0:
        return function(x, weight, bias, strides, begins, output_padding, groups, dilations)
    # an output padding as large as the stride is more than torch allows: pad the result instead
    y = function(x, weight, bias, strides, 0, 0, groups, dilations)
    padding = [
        amount
        for axis in reversed(range(rank))
        for amount in (-begins[axis], output_padding[axis] - ends[axis])
    ]
    return F.pad(y, padding)
