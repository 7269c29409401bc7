"""Write onnxruntime's Attention as three layers, the scores between them, and their mixture.

It is described in onnxruntime's ``docs/ContribOperators.md``: its weight holds those of queries,
keys and values side by side.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
import onnx_ir as ir

from workers.compression.graph.editor import Editor, constant
from workers.compression.graph.operators import operand
from workers.compression.graph.rewrites.splice import put

_KINDS = ("queries", "keys", "values")

_TO_HEADS, _TO_KEYS = [0, 2, 1, 3], [0, 2, 3, 1]
"""Orders of the axes of ``[batch, length, heads, width]``."""

_MASK, _PAST, _SUMMAND, _PAST_LENGTH = 3, 4, 5, 6
"""The inputs of an Attention after its weight and bias."""


def spell_out_attention(edit: Editor, node: ir.Node) -> list[ir.Value | None] | None:
    """Return what replaces the outputs of an Attention.

    None for one with a cache, a causal mask, rotated positions, a mask of blocks, or a weight that
    is computed.
    """
    x, weight, bias = node.inputs[0], node.inputs[1], operand(node, 2)
    constants = [value for value in (weight, bias) if value is not None]
    if x is None or weight is None or not all(value.is_initializer() for value in constants):
        return None
    others = (operand(node, _PAST), operand(node, _PAST_LENGTH), *node.outputs[1:])
    switches = (node.attributes.get_int(name, 0) for name in ("unidirectional", "do_rotary"))
    if any(v is not None and (v.name or v.uses()) for v in others) or any(switches):
        return None
    mask, hidden = operand(node, _MASK), None
    if mask is not None and (hidden := _hidden(edit, node, x, mask)) is None:
        return None
    heads = node.attributes.get_int("num_heads", 1)
    queries, keys, values = _projected(edit, node, x, heads)
    factor = node.attributes.get_float("scale", 0.0)
    width = _sizes(node, weight)[0] // heads
    root = np.array(1 / factor if factor else sqrt(width), np.float32)
    divisor = edit.constant(f"{node.name}_divisor", root)
    scores = put(edit, node, "Div", _product(edit, node, "scores", queries, keys), divisor)
    for summand in (hidden, operand(node, _SUMMAND)):
        scores = scores if summand is None else put(edit, node, "Add", scores, summand)
    shares = put(edit, node, "Softmax", scores, attributes=[ir.AttrInt64("axis", -1)])
    mixed = _turned(edit, node, _product(edit, node, "mixture", shares, values), _TO_HEADS)
    joined = edit.constant(f"{node.name}_joined", np.array([0, 0, -1]))
    output = put(edit, node, "Reshape", mixed, joined)
    return [output, *[None for _ in node.outputs[1:]]]


def _projected(edit: Editor, node: ir.Node, x: ir.Value, heads: int) -> list[ir.Value]:
    """Return queries, keys and values, ``[batch, heads, length, width]``; of keys, turned."""
    weight, bias = node.inputs[1], operand(node, 2)
    assert weight is not None
    matrix = constant(weight)
    ends = np.cumsum(_sizes(node, weight))[:-1]
    matrices = np.split(matrix, ends, axis=1)
    biases = None if bias is None else np.split(constant(bias), ends)
    split = edit.constant(f"{node.name}_heads", np.array([0, 0, heads, -1]))
    found = []
    for index, kind in enumerate(_KINDS):
        part = edit.constant(f"{weight.name}_{kind}", matrices[index])
        y = _product(edit, node, kind, x, part)
        if biases is not None:
            y = put(edit, node, "Add", y, edit.constant(f"{weight.name}_{kind}_b", biases[index]))
        y = put(edit, node, "Reshape", y, split)
        found.append(_turned(edit, node, y, _TO_KEYS if kind == "keys" else _TO_HEADS))
    return found


def _sizes(node: ir.Node, weight: ir.Value) -> Sequence[int]:
    """Return how many columns of the weight are of queries, keys and values."""
    third = constant(weight).shape[1] // len(_KINDS)
    return node.attributes.get_ints("qkv_hidden_sizes") or [third] * len(_KINDS)


def _product(edit: Editor, node: ir.Node, kind: str, a: ir.Value, b: ir.Value) -> ir.Value:
    return put(edit, node, "MatMul", a, b, name=edit.fresh(f"{node.name}_{kind}"))


def _turned(edit: Editor, node: ir.Node, x: ir.Value, order: list[int]) -> ir.Value:
    return put(edit, node, "Transpose", x, attributes=[ir.AttrInt64s("perm", order)])


def _hidden(edit: Editor, node: ir.Node, x: ir.Value, mask: ir.Value) -> ir.Value | None:
    """Return what is added to scores: next to nothing, and much less where a key is hidden.

    A mask is ``[batch, keys]`` or ``[batch, queries, keys]``, above zero where a key is seen; or
    ``[batch]``, how many keys are seen. None for one of another form.
    """
    rank = None if mask.shape is None else len(mask.shape)
    dtype = mask.dtype or ir.DataType.INT32
    if rank in {2, 3}:
        none = edit.constant(f"{node.name}_none", np.zeros((), dtype.numpy()))
        seen = put(edit, node, "Greater", mask, none, dtype=ir.DataType.BOOL)
    elif rank == 1 and x.shape is not None and mask.shape == ir.Shape(x.shape[:1]):
        places = _places(edit, node, x, dtype)
        ends = put(edit, node, "Unsqueeze", mask, _axes(edit, node, 1), dtype=dtype)
        seen = put(edit, node, "Less", places, ends, dtype=ir.DataType.BOOL)
    else:
        return None
    axes = _axes(edit, node, *([1] if rank == 3 else [1, 2]))
    spread = put(edit, node, "Unsqueeze", seen, axes, dtype=ir.DataType.BOOL)
    filled = np.array(node.attributes.get_float("mask_filter_value", -10_000.0), np.float32)
    shown = edit.constant(f"{node.name}_shown", np.array(0, np.float32))
    return put(edit, node, "Where", spread, shown, edit.constant(f"{node.name}_hidden", filled))


def _places(edit: Editor, node: ir.Node, x: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Return the places of keys, from zero on."""
    bounds = [ir.AttrInt64("start", 1), ir.AttrInt64("end", 2)]
    length = put(edit, node, "Shape", x, attributes=bounds, dtype=ir.DataType.INT64)
    count = put(edit, node, "Squeeze", length, dtype=ir.DataType.INT64)
    begin, step = (edit.constant(f"{node.name}_{n}", np.array(n)) for n in (0, 1))
    places = put(edit, node, "Range", begin, count, step, dtype=ir.DataType.INT64)
    to = ir.AttrInt64("to", dtype.value)
    return put(edit, node, "Cast", places, attributes=[to], dtype=dtype)


def _axes(edit: Editor, node: ir.Node, *axes: int) -> ir.Value:
    return edit.constant(f"{node.name}_axes", np.array(axes))
