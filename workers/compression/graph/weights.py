"""Finds the stored weights of a node, and counts their elements.

A weight may reach its operator through DequantizeLinear, Cast, Transpose or a codebook; the bias of
a product may lie in an Add behind it.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.operators import operand, operator_of

_CARRIERS = frozenset(
    {"DequantizeLinear", "QuantizeLinear", "Cast", "Transpose", "Identity", "Reshape", "Squeeze",
     "Unsqueeze", "Flatten"}
)  # fmt: skip
"""Operators that may stand between a weight and the operator that uses it."""

_AFTER_PRODUCT = frozenset({"Cast", "Mul", "DequantizeLinear", "QuantizeLinear", "Identity"})
"""Operators that may stand between a (quantized) product and the Add of its bias."""

SUMS = {"Add": (0, 1), "QLinearAdd": (0, 3)}
"""Operators that may put a bias on a product, with their operands' slots."""

_REACH = 8
"""The largest number of such operators in a row."""

_INDICES = frozenset({ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.STRING})
"""Types that no weight has: a Gather from them picks sizes, not embeddings."""

_NONZERO_CHUNK = 1 << 24


@dataclass(frozen=True)
class Weight:
    """One stored tensor of weights, and the stored value that means zero."""

    value: ir.Value
    tensor: ir.TensorProtocol
    zero_point: ir.Value | None = None
    axis: int | None = None
    """The axis of a zero point that is a vector."""
    codebook: ir.Value | None = None
    """The values that the tensor's elements are indices into."""


def weights_of(node: ir.Node) -> list[Weight]:
    """Return the stored weights and biases of a node, the bias that an Add holds included."""
    operator = operator_of(node)
    if operator is None:
        return _added_bias(node)
    if _codebook(node) is not None:
        return []  # it counts where the weight is used
    weights = []
    for index, slot in enumerate((*operator.weights, *operator.biases)):
        weight = stored(operand(node, slot))
        if weight is None or weight.tensor.dtype in _INDICES:
            continue
        if weight.zero_point is None and index < len(operator.zero_points):
            zero = operand(node, operator.zero_points[index])
            weight = replace(weight, zero_point=zero, axis=operator.channel_axis)
        weights.append(weight)
    return weights


def stored(value: ir.Value | None) -> Weight | None:
    """Trace a value back to the stored constant that it comes from, None if it is computed."""
    zero_point, axis, codebook = None, None, None
    for _ in range(_REACH):
        if value is None:
            return None
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is not None:
            return Weight(value, tensor, zero_point, axis, codebook)
        node = value.producer()
        if node is not None and node.op_type == "Mul":
            value = operand(node, 0)  # stored integers, or values of a codebook, times scales
            node = value.producer() if value is not None else None
            if node is None or (node.op_type != "Cast" and _codebook(node) is None):
                return None
        if node is not None and (book := _codebook(node)) is not None:
            codebook, value = book, operand(node, 1)
            continue
        if node is None or node.op_type not in _CARRIERS:
            return None
        if node.op_type == "DequantizeLinear":
            zero_point, axis = operand(node, 2), node.attributes.get_int("axis", 1)
        value = operand(node, 0)
    return None


def _codebook(node: ir.Node) -> ir.Value | None:
    """Return the codebook of a node that looks up constant indices, None for other nodes."""
    book, indices = operand(node, 0), operand(node, 1)
    if node.op_type != "Gather" or book is None or book.const_value is None:
        return None
    cast = indices.producer() if indices is not None else None
    if len(book.const_value.shape) != 1 or cast is None or cast.op_type != "Cast":
        return None
    stored_indices = operand(cast, 0)
    return book if stored_indices is not None and stored_indices.is_initializer() else None


def _added_bias(node: ir.Node) -> list[Weight]:
    """Return the constant that an Add adds to a product, if it is a vector."""
    operands = [operand(node, slot) for slot in SUMS.get(node.op_type, ())]
    for bias, product in zip(operands, operands[::-1], strict=True):
        weight = stored(bias)
        if weight is None or weight.tensor.dtype in _INDICES or not _comes_from_product(product):
            continue
        shape = weight.tensor.shape.numpy()
        if shape and prod(shape) == max(shape) > 1:
            return [weight]
    return []


def _comes_from_product(value: ir.Value | None) -> bool:
    for _ in range(_REACH):
        node = value.producer() if value is not None else None
        if node is None:
            return False
        operator = operator_of(node)
        if operator is not None and operator.weights:
            return operator.multiplies
        if node.op_type not in _AFTER_PRODUCT:
            return False
        value = next((v for v in node.inputs if v is not None and stored(v) is None), None)
    return False


def count_elements(weight: Weight, node: ir.Node) -> int:
    """Count the elements of a weight of a node, also where they are packed in bytes."""
    packed = _packed(weight, node)
    return packed[0] * packed[1] if packed else int(weight.tensor.size)


def count_nonzero(weight: Weight, node: ir.Node) -> int:
    """Count the elements that do not mean zero, a bounded chunk at a time."""
    array = weight.tensor.numpy()
    if packed := _packed(weight, node):
        return _nonzero_packed(array, packed, node.attributes.get_int("bits", 4))
    if weight.codebook is not None and weight.codebook.const_value is not None:
        zeros = np.flatnonzero(weight.codebook.const_value.numpy() == 0)
        return int(array.size - np.isin(array.astype(np.uint8), zeros).sum())
    point = ir.convenience.get_const_tensor(weight.zero_point) if weight.zero_point else None
    zero = None if point is None else point.numpy()
    if zero is not None and zero.size > 1:
        axis = weight.axis if weight.axis is not None else -1
        if array.ndim == 0 or array.shape[axis] != zero.size:
            return int(array.size)
        shape = [1] * array.ndim
        shape[axis] = zero.size
        return int(np.count_nonzero(array != zero.reshape(shape)))
    blank = 0 if zero is None else zero.reshape(()).item()
    flat = array.reshape(-1)
    return sum(
        int(np.count_nonzero(flat[start : start + _NONZERO_CHUNK] != flat.dtype.type(blank)))
        for start in range(0, flat.size, _NONZERO_CHUNK)
    )


def _packed(weight: Weight, node: ir.Node) -> tuple[int, int] | None:
    """Return the real shape ``(N, K)`` of MatMulNBits' weight, which is packed in bytes."""
    if node.op_type != "MatMulNBits" or weight.value is not operand(node, 1):
        return None
    return node.attributes.get_int("N", 0), node.attributes.get_int("K", 0)


def _nonzero_packed(array: NDArray[Any], shape: tuple[int, int], bits: int) -> int:
    """Count fields of ``bits`` bits that differ from the middle, the default zero point."""
    per_byte = 8 // bits
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    fields = (array.astype(np.uint8)[..., None] >> shifts) & ((1 << bits) - 1)
    rows = fields.reshape(shape[0], -1)[:, : shape[1]]
    return int(np.count_nonzero(rows != 1 << (bits - 1)))
