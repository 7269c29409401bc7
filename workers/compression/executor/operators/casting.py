"""Changes of type."""

from functools import partial

import onnx_ir as ir
import torch
from torch import Tensor

from workers.compression.executor.dtypes import FLOATS, TORCH
from workers.compression.executor.node import Node, Unsupported
from workers.compression.executor.plan import Function

_PLAIN = FLOATS | {
    ir.DataType.BOOL,
    ir.DataType.INT8,
    ir.DataType.INT16,
    ir.DataType.INT32,
    ir.DataType.INT64,
    ir.DataType.UINT8,
    ir.DataType.UINT16,
    ir.DataType.UINT32,
    ir.DataType.UINT64,
}
"""Types between which torch's casts are those of ONNX."""


def cast(node: Node) -> Function:
    """Cast."""
    return _to(ir.DataType(node.integer("to")), node)


def cast_like(node: Node) -> Function:
    """CastLike: to the second input's type."""
    kind = node.dtype(1)
    if kind is None:
        return _cast_like
    node.bound.add(1)
    return _to(kind, node)


def _cast_like(x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


def _to(kind: ir.DataType, node: Node) -> Function:
    source = node.dtype(0)
    if kind not in _PLAIN or (source is not None and source not in _PLAIN):
        raise Unsupported(f"{node.op_type} from {source} to {kind}")
    return partial(_cast, TORCH[kind])


def _cast(dtype: torch.dtype, x: Tensor) -> Tensor:
    return x.to(dtype)
