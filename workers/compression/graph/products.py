"""Matrix products as they are meant: a Gemm's factors and transposition are applied."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


def matrix(node: ir.Node, weight: NDArray[Any]) -> NDArray[Any]:
    """Return what a Gemm or MatMul multiplies by, ``[outputs, inputs]``, in the weight's type."""
    if node.op_type == "MatMul":
        return weight.T
    alpha = weight.dtype.type(node.attributes.get_float("alpha", 1.0))
    scaled: NDArray[Any] = (weight if node.attributes.get_int("transB", 0) else weight.T) * alpha
    return scaled


def bias_vector(node: ir.Node, bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a layer adds to its products, ``[outputs]`` or ``[1]``."""
    beta = node.attributes.get_float("beta", 1.0) if node.op_type == "Gemm" else 1.0
    return bias.reshape(-1) * np.float32(beta)
