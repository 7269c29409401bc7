"""Divides the channels of a value in a graph, where it can be in the constants that make it.

Those are the scale and offset of a normalisation, the constant of a product or sum, or the columns
of a matrix, also through a Relu or one side of a gate. Where that is impossible (a Gelu, or a
residual that reads the value too), a Mul divides.
"""

from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.editor import Editor, constant
from workers.compression.graph.operators import operand
from workers.compression.methods.quantize.layers import QuantizableLayer

Array = NDArray[np.float64]

_NORMALISATIONS = ("LayerNormalization", "RMSNormalization")
_POSITIVE = ("Identity", "LeakyRelu", "Relu")
"""Operators ``f`` with ``f(x / s) = f(x) / s`` for positive ``s``."""

_SEES_SIZE = ("Shape", "Size")

Slot = tuple[ir.Node, int]


def folding(value: ir.Value, readers: Collection[ir.Node]) -> list[Slot] | None:
    """Return the constants to divide so that a value is divided; None if that is impossible.

    Args:
        value: the value, which is divided along its last axis.
        readers: the nodes that read the divided value; other readers make it impossible.
    """
    node = value.producer()
    others = [user.op_type for user in value.consumers() if user not in readers]
    if node is None or value.is_graph_output() or not set(others) <= set(_SEES_SIZE):
        return None
    if node.op_type in _NORMALISATIONS:
        return _normalising(node, value)
    if node.op_type in ("Gemm", "MatMul"):
        return constant_slots(node, (1, 2), rank=2)
    if node.op_type in ("Add", "Mul"):
        return _elementwise(node)
    return _folding_before(node, 0) if node.op_type in _POSITIVE else None


def _elementwise(node: ir.Node) -> list[Slot] | None:
    """Return the constants that divide a node's output: of both summands, or of one factor."""
    constant_slot = next((slot for slot in (0, 1) if constant_slots(node, (slot,))), None)
    if node.op_type == "Mul":
        if constant_slot is not None:
            return [(node, constant_slot)]
        return _folding_before(node, 1) or _folding_before(node, 0)
    if constant_slot is None:
        return None
    slots = _folding_before(node, 1 - constant_slot)
    return None if slots is None else [(node, constant_slot), *slots]


def _folding_before(node: ir.Node, slot: int) -> list[Slot] | None:
    """Return the constants to divide for a node's input, if no other node reads that input."""
    value = node.inputs[slot]
    if value is None or sum(user is node for user, _ in value.uses()) > 1:
        return None
    return folding(value, {node})


def _normalising(node: ir.Node, value: ir.Value) -> list[Slot] | None:
    """Return the scale and the offset of a normalisation over the last axis."""
    axis = node.attributes.get_int("axis", -1)
    last = axis == -1 or (value.shape is not None and axis == len(value.shape) - 1)
    return constant_slots(node, (1, 2), rank=1) if last else None


def constant_slots(
    node: ir.Node, slots: Sequence[int], rank: int | None = None
) -> list[Slot] | None:
    """Return the present inputs of a node; None unless all of them are float constants.

    Args:
        node: the node.
        slots: the positions of the inputs.
        rank: the rank of the first input; None for any rank.
    """
    constants = [(node, slot) for slot in slots if operand(node, slot) is not None]
    for _, slot in constants:
        value = node.inputs[slot]
        is_constant = value is not None and value.is_initializer() and not value.is_graph_input()
        if value is None or not is_constant or value.dtype != ir.DataType.FLOAT:
            return None
    first = constants[0][0].inputs[constants[0][1]] if constants else None
    if first is None or (rank is not None and constant(first).ndim != rank):
        return None
    return constants


def divide(
    edit: Editor,
    value: ir.Value,
    scales: Array,
    layers: Sequence[QuantizableLayer],
    slots: Sequence[Slot] | None,
) -> None:
    """Divide the value that products read by ``scales``: in constants, or by a Mul."""
    if slots is not None:
        for slot in slots:
            scale(edit, slot, 1 / scales, rows=False)
        return
    factors = edit.constant(f"{value.name}_smoothing", (1 / scales).astype(np.float32))
    divided = edit.node("Mul", [value, factors], f"{value.name}_smoothed")
    divided.outputs[0].shape, divided.outputs[0].type = value.shape, value.type
    edit.insert_after(value, [divided])
    for layer in layers:
        layer.node.replace_input_with(0, divided.outputs[0])


def scale(edit: Editor, slot: Slot, factors: Array, *, rows: bool) -> None:
    """Multiply a constant that a node reads by factors for its channels.

    Args:
        edit: the editor of the graph.
        slot: the node, and the position of the constant among its inputs.
        factors: ``[C]``.
        rows: whether the channels are a matrix's inputs, or else its outputs.
    """
    node, position = slot
    transposed = (
        position == 1 and node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))
    )
    multiply(edit, slot, factors, axis=-2 if rows != transposed else -1)


def multiply(edit: Editor, slot: Slot, factors: Array, *, axis: int) -> None:
    """Multiply a constant that a node reads by factors along one of its axes.

    Args:
        edit: the editor of the graph.
        slot: the node, and the position of the constant among its inputs.
        factors: ``[C]``.
        axis: that of the channels; a negative one counts from the end.
    """
    node, position = slot
    value = node.inputs[position]
    assert value is not None
    array = constant(value)
    behind = -1 - axis if axis < 0 else array.ndim - 1 - axis
    scaled = (array * factors.reshape(-1, *[1] * behind)).astype(np.float32)
    if len(value.uses()) == 1:
        value.const_value, value.shape = ir.Tensor(scaled, name=value.name), ir.Shape(scaled.shape)
    else:
        node.replace_input_with(position, edit.constant(f"{value.name}_scaled", scaled))
