"""Fold a scale or an offset of channels into the convolution before it."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.rewrites.batchnorm import (
    array_of,
    convolution_before,
    fold_into,
    is_constant,
)

Vector = NDArray[np.float64]


def fold_affine(model: ir.Model) -> int:
    """Fold Mul, Div, Add and Sub of a constant into a convolution that nothing else reads.

    1. The constant has one element, or one for each channel.
    2. Chains are folded from the front: a scale, then an offset.
    3. The convolution gets a bias where it had none.

    Left alone: a constant of other shapes, one that is divided by or subtracted from, and what
    ``fold_batchnorm`` leaves alone.
    """
    changes = 0
    for node in list(model.graph):
        slot = _convolved(node) if node.op_type in {"Mul", "Div", "Add", "Sub"} else None
        conv = convolution_before(node, slot) if slot is not None else None
        if conv is None or slot is None:
            continue
        constant = _per_channel(node.inputs[1 - slot], conv)
        if constant is not None:
            fold_into(conv, node, *_factor_and_shift(node.op_type, constant))
            changes += 1
    return changes


def _convolved(node: ir.Node) -> int | None:
    """Return the slot of the computed operand, if the other one is a constant."""
    for slot in (0, 1) if node.op_type in {"Mul", "Add"} else (0,):
        constant = node.inputs[1 - slot]
        if constant is not None and is_constant(constant):
            return slot
    return None


def _per_channel(value: ir.Value | None, conv: ir.Node) -> Vector | None:
    """Return a constant as a vector over a convolution's channels, None if it is not one."""
    weight = conv.inputs[1]
    kernel, array = array_of(weight), array_of(value)
    rank, channels = kernel.ndim, kernel.shape[0 if conv.op_type == "Conv" else 1]
    if array.size == 1 and array.ndim <= rank:
        return np.full(channels, array.reshape(()))
    channel_shape = [1, channels, *[1] * (rank - 2)]
    if array.ndim > rank or [1] * (rank - array.ndim) + list(array.shape) != channel_shape:
        return None
    return array.reshape(-1)


def _factor_and_shift(operator: str, constant: Vector) -> tuple[Vector, Vector]:
    if operator in {"Mul", "Div"}:
        return constant if operator == "Mul" else 1 / constant, np.zeros_like(constant)
    return np.ones_like(constant), constant if operator == "Add" else -constant
