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
    left, right = bool(node.integer("transA")), bool(node.integer("transB"))
    plain = alpha == 1 and (beta == 1 or not node.has(2)) and not left
    if plain and right and (not node.has(2) or node.rank(2) == 1):
        return F.linear
    return partial(_gemm, alpha, beta, left, right)


def _gemm(
    alpha: float,
    beta: float,
    left: bool,
    right: bool,
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
) -> Tensor:
    a, b = a.t() if left else a, b.t() if right else b
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
