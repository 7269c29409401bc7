"""A product with a matrix and the addition of a bias."""

import onnx_ir as ir
import torch
from torch import Tensor

from workers.compression.executor.fusions.idiom import Fusion, MatchContext
from workers.compression.executor.node import Node
from workers.compression.executor.plan import Function


def affine(node: ir.Node, context: MatchContext) -> Fusion | None:
    """Match an Add of a MatMul with an initializer of two axes and an initializer of one axis."""
    if node.op_type != "Add" or node.domain:
        return None
    for product, bias in (node.inputs, tuple(reversed(node.inputs))):
        matmul = context.sole_producer(product, "MatMul")
        if matmul is None:
            continue
        weight = matmul.inputs[1]
        if _axes(weight) == 2 and _axes(bias) == 1:
            return Fusion(_build, (*matmul.inputs, bias))
    return None


def _axes(value: ir.Value | None) -> int | None:
    if value is None or not value.is_initializer() or value.is_graph_input():
        return None
    return None if value.const_value is None else len(value.const_value.shape)


def _build(_node: Node) -> Function:
    return _affine


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if bias.shape[0] != weight.shape[1] or x.ndim < 2:
        return x @ weight + bias
    rows = torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight)
    return rows.reshape(*x.shape[:-1], weight.shape[1])
