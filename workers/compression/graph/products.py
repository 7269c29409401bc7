"""Weights and biases of matrix products, with a Gemm's factors and transposition applied."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


def matrix(node: ir.Node, weight: NDArray[Any]) -> NDArray[Any]:
    """Return the effective weight of a Gemm or MatMul, ``[outputs, inputs]``."""
    if node.op_type == "MatMul":
        return weight.T
    alpha = weight.dtype.type(node.attributes.get_float("alpha", 1.0))
    scaled: NDArray[Any] = (weight if node.attributes.get_int("transB", 0) else weight.T) * alpha
    return scaled


def bias_vector(node: ir.Node, bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the effective bias of a layer, ``[outputs]`` or ``[1]``."""
    beta = node.attributes.get_float("beta", 1.0) if node.op_type == "Gemm" else 1.0
    return bias.reshape(-1) * np.float32(beta)
