"""Products of matrices."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from workers.compression.executor.node import Node
from workers.compression.executor.plan import Function


def matmul(_node: Node) -> Function:
    """MatMul, with broadcast leading axes."""
    return torch.matmul


def gemm(node: Node) -> Function:
    """Gemm: ``alpha A' B' + beta C`` of two matrices."""
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    transpose_a, transpose_b = bool(node.integer("transA")), bool(node.integer("transB"))
    plain = alpha == 1 and (beta == 1 or not node.has(2)) and not transpose_a
    if plain and transpose_b and (not node.has(2) or node.rank(2) == 1):
        return F.linear
    return partial(_gemm, alpha, beta, transpose_a, transpose_b)


def _gemm(
    alpha: float,
    beta: float,
    transpose_a: bool,
    transpose_b: bool,
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
) -> Tensor:
    a, b = a.t() if transpose_a else a, b.t() if transpose_b else b
    if c is None:
        product = a @ b
        return product if alpha == 1 else product * alpha
    if not a.is_floating_point():
        return a @ b * int(alpha) + c * int(beta)
    return torch.addmm(c, a, b, beta=beta, alpha=alpha)


def einsum(node: Node) -> Function:
    """Einsum."""
    return partial(_einsum, node.text("equation").replace(" ", ""))


def _einsum(equation: str, *tensors: Tensor) -> Tensor:
    return torch.einsum(equation, *tensors)


def det(_node: Node) -> Function:
    """Det."""
    function: Function = torch.linalg.det
    return function
