"""Operators that create tensors from sizes alone."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from workers.compression.executor.devices import device_of
from workers.compression.executor.dtypes import TORCH, to_torch
from workers.compression.executor.node import Node, Unsupported
from workers.compression.executor.plan import Function
from workers.compression.executor.symbolic import Sizes


def constant_of_shape(node: Node) -> Function:
    """ConstantOfShape: one value everywhere, zero by default."""
    value = node.tensor("value")
    fill = torch.zeros(1) if value is None else to_torch(value.reshape(-1)[:1])
    node.sizes.add(0)
    return partial(_filled, fill)


def _filled(fill: Tensor, shape: Tensor) -> Tensor:
    sizes: Sequence[int] = shape.tolist()
    return fill.to(device_of([shape])).expand(tuple(sizes)).contiguous()


def range_(node: Node) -> Function:
    """Range."""
    node.sizes |= {0, 1, 2}
    return _range


def _range(start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
    numbers: list[Any] = [start, limit, step]
    if any(isinstance(number, Sizes) for number in numbers):
        first, last, by = (number.tolist() for number in numbers)
        return torch.arange(first, last, by)
    count = max(0, math.ceil((float(limit) - float(start)) / float(step)))
    device = device_of(numbers)
    steps = torch.arange(count, dtype=start.dtype, device=device)
    return start.to(device) + steps * step.to(device)


def eye_like(node: Node) -> Function:
    """EyeLike."""
    kind = node.integer("dtype")
    if kind and ir.DataType(kind) not in TORCH:
        raise Unsupported(f"EyeLike of {ir.DataType(kind)}")
    return partial(_eye_like, node.integer("k"), TORCH[ir.DataType(kind)] if kind else None)


def _eye_like(diagonal: int, dtype: torch.dtype | None, x: Tensor) -> Tensor:
    ones = torch.ones_like(x, dtype=dtype or x.dtype)
    return ones.triu(diagonal).tril(diagonal)
