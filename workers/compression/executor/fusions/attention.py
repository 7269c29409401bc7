"""Scaled dot-product attention, spelled out."""

from functools import partial

import onnx_ir as ir
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.fusions.idiom import Fusion, Surroundings, number
from workers.compression.executor.node import Node
from workers.compression.executor.plan import Function


def attention(node: ir.Node, around: Surroundings) -> Fusion | None:
    """Match ``softmax(q kᵀ · scale + mask) v`` over four axes.

    1. Queries and transposed keys may each be scaled by a number, and so may their product.
    2. A mask may be added to the product.
    3. Nothing in between has another reader; softmax is along the last axis.
    4. Keys that torch's exporter transposes as a stack of matrices, reshaped before and after, are
       read before all that.
    """
    if node.op_type != "MatMul" or node.domain:
        return None
    softmax = around.only(node.inputs[0], "Softmax")
    if softmax is None or not _along_last(softmax):
        return None
    scores, mask = _masked(softmax.inputs[0], around)
    scores, scale = _scaled(scores, around)
    product = around.only(scores, "MatMul")
    if product is None:
        return None
    query, first = _scaled(product.inputs[0], around)
    key, second = _scaled(product.inputs[1], around)
    straight = _before_transposition(key, around)
    values = (query, straight or key, node.inputs[1])
    if any(value is None or value.shape is None or len(value.shape) != 4 for value in values):
        return None
    build = partial(_build, scale * first * second, straight is None)
    return Fusion(build, (*values, mask))


def _along_last(softmax: ir.Node) -> bool:
    value = softmax.inputs[0]
    rank = len(value.shape) if value is not None and value.shape is not None else None
    axis = softmax.attributes.get_int("axis", -1)
    return axis == -1 or (rank is not None and axis == rank - 1)


def _masked(
    value: ir.Value | None, around: Surroundings
) -> tuple[ir.Value | None, ir.Value | None]:
    """Return scores and the mask that is added to them."""
    added = around.only(value, "Add")
    if added is None:
        return value, None
    for scores, mask in (added.inputs, tuple(reversed(added.inputs))):
        inner, _ = _scaled(scores, around)
        if around.only(inner, "MatMul") is not None:
            return scores, mask
    return value, None


def _scaled(value: ir.Value | None, around: Surroundings) -> tuple[ir.Value | None, float]:
    """Return a value before it is multiplied or divided by a number, and the factor."""
    product = around.only(value, "Mul")
    if product is not None:
        for inner, factor in (product.inputs, tuple(reversed(product.inputs))):
            if (found := number(factor)) is not None:
                return inner, found
    quotient = around.only(value, "Div")
    if quotient is not None and (found := number(quotient.inputs[1])):
        return quotient.inputs[0], 1 / found
    return value, 1.0


def _before_transposition(value: ir.Value | None, around: Surroundings) -> ir.Value | None:
    """Return what a value was before its last two axes changed places in a reshaped stack."""
    after = around.only(value, "Reshape")
    turn = around.only(after.inputs[0], "Transpose") if after is not None else None
    before = around.only(turn.inputs[0], "Reshape") if turn is not None else None
    if value is None or turn is None or before is None or before.inputs[0] is None:
        return None
    source, stack = before.inputs[0], before.outputs[0]
    shapes = [None if each.shape is None else list(each.shape) for each in (source, stack, value)]
    given, flat, made = shapes
    if given is None or flat is None or made is None or len(given) != 4 or len(flat) != 3:
        return None
    known = all(size is not None and size != ir.SymbolicDim(None) for size in given)
    swapped = [*given[:2], given[3], given[2]] == made and given[2:] == flat[1:]
    order = list(turn.attributes.get_ints("perm") or ())
    return source if known and swapped and order == [0, 2, 1] else None


def _build(scale: float, transposed: bool, _node: Node) -> Function:
    return partial(_attention, scale, transposed)


def _attention(
    scale: float,
    transposed: bool,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """Attend; ``key`` is ``[batch, heads, width, length]`` when it is ``transposed``."""
    key = key.transpose(-2, -1) if transposed else key
    return F.scaled_dot_product_attention(query, key, value, mask, scale=scale)
