"""The torch types of ONNX element types, and conversions between numpy and torch."""

from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

FLOATS = frozenset(
    {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}
)
"""The types that can be trained."""

TORCH: dict[ir.DataType, torch.dtype] = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.BOOL: torch.bool,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.UINT16: torch.uint16,
    ir.DataType.UINT32: torch.uint32,
    ir.DataType.UINT64: torch.uint64,
    ir.DataType.COMPLEX64: torch.complex64,
    ir.DataType.COMPLEX128: torch.complex128,
    ir.DataType.FLOAT8E4M3FN: torch.float8_e4m3fn,
    ir.DataType.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    ir.DataType.FLOAT8E5M2: torch.float8_e5m2,
    ir.DataType.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    ir.DataType.FLOAT8E8M0: torch.float8_e8m0fnu,
    ir.DataType.INT4: torch.int8,
    ir.DataType.UINT4: torch.uint8,
    ir.DataType.INT2: torch.int8,
    ir.DataType.UINT2: torch.uint8,
    ir.DataType.FLOAT4E2M1: torch.uint8,
}
"""The torch type of each ONNX type. An integer narrower than a byte takes one byte; of a float
narrower than a byte, the byte holds the bits."""

_FROM_TORCH = {dtype: kind for kind, dtype in reversed(TORCH.items())}

WIDE_UNSIGNED = frozenset({ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64})
"""Types that torch can hold, but hardly computes in."""

_WORDS = {1: np.uint8, 2: np.int16}


def to_torch(array: NDArray[Any]) -> torch.Tensor:
    """Copy a numpy array, also one of ml_dtypes' types, into a tensor on the CPU."""
    kind = ir.DataType.from_numpy(array.dtype)
    dtype = TORCH[kind]
    if kind.bitwidth < 8 and kind.is_integer():
        narrow = np.int8 if dtype == torch.int8 else np.uint8
        return torch.from_numpy(array.astype(narrow))
    if array.dtype.type.__module__ == "numpy":
        return torch.from_numpy(np.array(array, order="C"))
    words = np.array(array, order="C").view(_WORDS[array.dtype.itemsize])
    return torch.from_numpy(words).view(dtype)


def kind_of(tensor: torch.Tensor) -> ir.DataType:
    """Return the ONNX type of a tensor's elements."""
    return _FROM_TORCH[tensor.dtype]


def to_numpy(tensor: torch.Tensor, kind: ir.DataType) -> NDArray[Any]:
    """Return a tensor's values as a contiguous array of an ONNX type.

    Args:
        tensor: on any device, of the type that ``TORCH`` gives for ``kind``.
        kind: the ONNX type; decides how the bytes are read.
    """
    flat = tensor.detach().cpu().contiguous()
    target = kind.numpy()
    if kind.bitwidth < 8 and kind.is_integer():
        return flat.numpy().astype(target)
    if target.type.__module__ == "numpy":
        return flat.numpy()
    words = torch.uint8 if target.itemsize == 1 else torch.int16
    return flat.view(words).numpy().view(target)
