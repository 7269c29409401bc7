"""Scaled dot-product attention, spelled out."""

from functools import partial

import onnx_ir as ir
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.fusions.idiom import Fusion, MatchContext, number
from workers.compression.executor.node import Node
from workers.compression.executor.plan import Function


def attention(node: ir.Node, context: MatchContext) -> Fusion | None:
    """Match ``softmax(q kᵀ · scale + mask) v`` over four axes.

    1. Queries and transposed keys may each be scaled by a number, and so may their product.
    2. A mask may be added to the product.
    3. No value inside the idiom has another reader, and the softmax is over the last axis.
    4. torch's exporter reshapes keys to a stack of matrices, transposes the stack and reshapes it
       back. The fusion then reads the keys before the first reshape.
    """
    if node.op_type != "MatMul" or node.domain:
        return None
    softmax = context.sole_producer(node.inputs[0], "Softmax")
    if softmax is None or not _is_over_last_axis(softmax):
        return None
    scores, mask = _masked(softmax.inputs[0], context)
    scores, scale = _scaled(scores, context)
    product = context.sole_producer(scores, "MatMul")
    if product is None:
        return None
    query, query_scale = _scaled(product.inputs[0], context)
    key, key_scale = _scaled(product.inputs[1], context)
    untransposed = _before_transpose(key, context)
    values = (query, untransposed or key, node.inputs[1])
    if any(value is None or value.shape is None or len(value.shape) != 4 for value in values):
        return None
    build = partial(_build, scale * query_scale * key_scale, untransposed is None)
    return Fusion(build, (*values, mask))


def _is_over_last_axis(softmax: ir.Node) -> bool:
    value = softmax.inputs[0]
    rank = len(value.shape) if value is not None and value.shape is not None else None
    axis = softmax.attributes.get_int("axis", -1)
    return axis == -1 or (rank is not None and axis == rank - 1)


def _masked(
    value: ir.Value | None, context: MatchContext
) -> tuple[ir.Value | None, ir.Value | None]:
    """Return the scores, and the mask that is added to them."""
    add = context.sole_producer(value, "Add")
    if add is None:
        return value, None
    for scores, mask in (add.inputs, tuple(reversed(add.inputs))):
        inner, _ = _scaled(scores, context)
        if context.sole_producer(inner, "MatMul") is not None:
            return scores, mask
    return value, None


def _scaled(value: ir.Value | None, context: MatchContext) -> tuple[ir.Value | None, float]:
    """Return the value that a number multiplies or divides, and the factor; else itself and 1."""
    product = context.sole_producer(value, "Mul")
    if product is not None:
        for inner, factor in (product.inputs, tuple(reversed(product.inputs))):
            if (scalar := number(factor)) is not None:
                return inner, scalar
    quotient = context.sole_producer(value, "Div")
    if quotient is not None and (scalar := number(quotient.inputs[1])):
        return quotient.inputs[0], 1 / scalar
    return value, 1.0


def _before_transpose(value: ir.Value | None, context: MatchContext) -> ir.Value | None:
    """Return the value before Reshape, Transpose and Reshape swapped its last two axes.

    Returns:
        None if the value does not come from such nodes.
    """
    outer = context.sole_producer(value, "Reshape")
    transpose = context.sole_producer(outer.inputs[0], "Transpose") if outer is not None else None
    inner = context.sole_producer(transpose.inputs[0], "Reshape") if transpose is not None else None
    if value is None or transpose is None or inner is None or inner.inputs[0] is None:
        return None
    source, stack = inner.inputs[0], inner.outputs[0]
    shapes = [
        None if tensor.shape is None else list(tensor.shape) for tensor in (source, stack, value)
    ]
    source_shape, stack_shape, value_shape = shapes
    if (
        source_shape is None
        or stack_shape is None
        or value_shape is None
        or len(source_shape) != 4
        or len(stack_shape) != 3
    ):
        return None
    known_sizes = all(size is not None and size != ir.SymbolicDim(None) for size in source_shape)
    swapped = [*source_shape[:2], source_shape[3], source_shape[2]] == value_shape
    stacked = source_shape[2:] == stack_shape[1:]
    order = list(transpose.attributes.get_ints("perm") or ())
    return source if known_sizes and swapped and stacked and order == [0, 2, 1] else None


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
    """Compute attention; ``key`` is ``[batch, heads, width, length]`` if ``transposed``."""
    key = key.transpose(-2, -1) if transposed else key
    return F.scaled_dot_product_attention(query, key, value, mask, scale=scale)
