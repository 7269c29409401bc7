"""Residual blocks: a sum of a value, the shortcut, and of what is computed from that value alone.

A block can be left out: the shortcut then replaces the sum.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import onnx_ir.passes.common as passes

_LONGEST = 500
"""The most values of a branch: a longer one is no block, and is not followed."""


@dataclass(frozen=True)
class Block:
    """A residual block: the Add at its end, and which of its two operands is which."""

    node: ir.Node
    shortcut: ir.Value
    branch: int
    """The slot of the operand that is computed from the shortcut."""

    @property
    def name(self) -> str:
        """The name of the Add, the same in each copy of the graph."""
        return str(self.node.name)


def blocks(model: ir.Model, shapes: Mapping[str, Any] | None = None) -> list[Block]:
    """Return the residual blocks of a graph, in order.

    Args:
        model: the graph.
        shapes: the shapes of its values, by name; by default those that the graph states. The two
            operands of a block have the same.
    """
    if shapes is None:
        shapes = {str(value.name): value.shape for node in model.graph for value in node.outputs}
    return [found for node in model.graph if (found := _block(node, shapes)) is not None]


def drop(model: ir.Model, shapes: Mapping[str, Any], names: Collection[str]) -> None:
    """Leave blocks out of a graph, in place; what then computes nothing is removed.

    Args:
        model: the graph.
        shapes: as in ``blocks``.
        names: the names of the blocks that go; consecutive ones may.
    """
    if not names:
        return
    gone = [block for block in blocks(model, shapes) if block.name in names]
    replacements = {block.node.outputs[0]: block.shortcut for block in gone}
    for output, shortcut in replacements.items():
        value = shortcut
        while value in replacements:
            value = replacements[value]
        ir.convenience.replace_all_uses_with(output, value)
    passes.RemoveUnusedNodesPass()(model)


def _block(node: ir.Node, shapes: Mapping[str, Any]) -> Block | None:
    """Return the residual block that ends at a node; None if the node ends no residual block."""
    if node.op_type != "Add" or len(node.inputs) != 2 or node.outputs[0].is_graph_output():
        return None
    one, other = node.inputs
    if one is None or other is None or one is other or one.const_value or other.const_value:
        return None
    if shapes.get(str(one.name)) != shapes.get(str(other.name)):
        return None
    for shortcut, branch, slot in ((one, other, 1), (other, one, 0)):
        if shortcut.producer() is not None and _comes_from(branch, shortcut):
            return Block(node, shortcut, slot)
    return None


def _comes_from(branch: ir.Value, start: ir.Value) -> bool:
    """Return whether ``branch`` is computed from ``start``, and from no graph input beside it."""
    pending, visited = [branch], set[ir.Value]()
    while pending:
        value = pending.pop()
        if value in visited or value.const_value is not None:
            continue
        visited.add(value)
        if value is start:
            continue
        node = value.producer()
        if node is None or len(visited) > _LONGEST:
            return False
        pending += [operand for operand in node.inputs if operand is not None]
    return start in visited
