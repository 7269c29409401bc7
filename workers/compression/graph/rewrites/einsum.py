"""Write an Einsum as a product of matrices."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from workers.compression.graph.editor import Editor

_OPERANDS = 2


@dataclass(frozen=True)
class _Product:
    """The letters of an Einsum by their role, in no particular order."""

    left: str
    right: str
    output: str
    batch: str
    """Letters in both operands and in the output."""
    rows: str
    """Letters in the left operand and in the output."""
    columns: str
    """Letters in the right operand and in the output."""
    summed: str
    """Letters in both operands, but not in the output."""


def spell_out_einsum(model: ir.Model) -> int:
    """Replace an Einsum of two operands by one MatMul between Transposes and Reshapes.

    1. A constant operand becomes the right one: a weight, as methods know it.
    2. Several letters of columns, or of the sum, become one dimension, of a constant's sizes.
    3. Several letters of rows stay dimensions before the matrix.

    Left alone: other numbers of operands, dots, letters that occur twice in an operand or in
    neither output nor the other operand, letters of 2. of unknown size, and nodes in subgraphs.
    """
    edit, count = Editor(model), 0
    for node in list(model.graph):
        if node.op_type != "Einsum" or node.domain or len(node.inputs) != _OPERANDS:
            continue
        left, right = node.inputs
        if left is None or right is None:
            continue
        terms = _terms(node.attributes.get_string("equation", ""))
        if left.const_value is not None and right.const_value is None:
            left, right = right, left
            terms = None if terms is None else (terms[1], terms[0], terms[2])
        product = None if terms is None else _product(*terms)
        if product is not None and _replace(edit, node, left, right, product):
            count += 1
    return count


def _terms(equation: str) -> tuple[str, str, str] | None:
    """Return the letters of both operands and of the output."""
    operands, arrow, output = equation.replace(" ", "").partition("->")
    left, _, right = operands.partition(",")
    if not arrow:
        output = "".join(c for c in sorted({*left, *right}) if (left + right).count(c) == 1)
    every = (left, right, output)
    plain = all(term.isalpha() or not term for term in every)
    return every if plain and all(len({*term}) == len(term) for term in every) else None


def _product(left: str, right: str, output: str) -> _Product | None:
    left_letters, right_letters, output_letters = {*left}, {*right}, {*output}
    if (
        output_letters - left_letters - right_letters
        or (left_letters ^ right_letters) - output_letters
    ):
        return None
    return _Product(
        left,
        right,
        output,
        batch="".join(c for c in output if c in left_letters & right_letters),
        rows="".join(c for c in output if c in left_letters - right_letters),
        columns="".join(c for c in output if c in right_letters - left_letters),
        summed="".join(c for c in left if c in right_letters - output_letters),
    )


def _replace(
    edit: Editor, node: ir.Node, left: ir.Value, right: ir.Value, product: _Product
) -> bool:
    """Replace an Einsum by its product, unless a size that it needs is unknown."""
    sizes = _sizes(left, product.left) | _sizes(right, product.right)
    merged = [term for term in (product.summed, product.columns) if len(term) > 1]
    if not all(letter in sizes for term in merged for letter in term):
        return False
    batch, rows = len(product.batch), len(product.rows)
    steps = _Steps(edit, str(node.outputs[0].name))
    one = steps.transpose(left, product.left, product.batch + product.rows + product.summed)
    two = steps.transpose(right, product.right, product.batch + product.summed + product.columns)
    if len(product.summed) > 1:
        one = steps.reshape(one, [0] * (batch + rows) + [_size(product.summed, sizes)])
    elif not product.summed:
        one, two = steps.unsqueeze(one, [batch + rows]), steps.unsqueeze(two, [batch])
    if merged:
        inner = _size(product.summed, sizes) if len(product.summed) > 1 else 0
        outer = [_size(product.columns, sizes)] if len(product.columns) > 1 else [-1]
        two = steps.reshape(two, [0] * batch + [inner] + (outer if product.columns else []))
    if not product.columns:
        two = steps.unsqueeze(two, [batch + 1])
    if not rows:
        one = steps.unsqueeze(one, [batch])
    elif batch and rows > 1:
        two = steps.unsqueeze(two, list(range(batch, batch + rows - 1)))
    made = steps.add("MatMul", one, two)
    steps.nodes[-1].name = node.name
    if len(product.columns) > 1:
        front = [0] * (batch + max(rows, 1))
        made = steps.reshape(made, [*front, *(sizes[letter] for letter in product.columns)])
    extra_axes = [batch] * (not rows) + [batch + max(rows, 1)] * (not product.columns)
    if extra_axes:
        made = steps.add("Squeeze", made, steps.integers(extra_axes))
    steps.transpose(made, product.batch + product.rows + product.columns, product.output)
    edit.replace(node, steps.nodes)
    return True


def _sizes(value: ir.Value, letters: str) -> dict[str, int]:
    if value.const_value is None:
        return {}
    return dict(zip(letters, value.const_value.shape.numpy(), strict=True))


def _size(letters: str, sizes: dict[str, int]) -> int:
    return prod(sizes[letter] for letter in letters)


class _Steps:
    """The nodes that replace an Einsum, in order."""

    def __init__(self, edit: Editor, name: str) -> None:
        self._edit, self._name = edit, name
        self.nodes: list[ir.Node] = []

    def add(self, operator: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """Add a node and return its output."""
        name = f"{self._name}_{operator.lower()}"
        self.nodes.append(self._edit.node(operator, list(inputs), name, **attributes))
        return self.nodes[-1].outputs[0]

    def integers(self, numbers: Sequence[int]) -> ir.Value:
        """Return axes or a shape as a constant."""
        return self._edit.constant(f"{self._name}_sizes", np.array(numbers, np.int64))

    def transpose(self, value: ir.Value, letters: str, order: str) -> ir.Value:
        """Permute the dimensions."""
        if letters == order:
            return value
        return self.add("Transpose", value, perm=[letters.index(letter) for letter in order])

    def reshape(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        """Merge or split dimensions; 0 keeps one."""
        return self.add("Reshape", value, self.integers(shape))

    def unsqueeze(self, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        """Add dimensions of one element."""
        return self.add("Unsqueeze", value, self.integers(axes))
