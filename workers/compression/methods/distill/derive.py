"""Derives a student from the graph: a narrower and shallower copy that keeps its weights."""

from collections.abc import Callable

import onnx_ir as ir
import onnx_ir.passes.common as passes

from app.domain.steps import Prune, Skipped
from app.domain.steps.distill import Scale
from workers.compression.graph.kept import Kept
from workers.compression.graph.shapes import Shapes
from workers.compression.methods.distill.taps import shapes_of
from workers.compression.methods.prune.channels import prune_channels
from workers.compression.samples.context import Context

Block = tuple[ir.Node, ir.Value]
"""The Add at the end of a residual block, and the block's input, which is its shortcut."""


def derive(
    model: ir.Model, scale: Scale, context: Context, advance: Callable[[float], None]
) -> tuple[ir.Model, list[Skipped], Kept]:
    """Keep a share of the residual blocks, and a share of each layer's channels.

    The channels with the largest norm are kept.

    Args:
        model: the graph, whose nodes have names; not changed.
        scale: the shares.
        context: data, seed, threads.
        advance: called with the fraction done.

    Returns:
        The smaller graph, the refusals, and which indices of the graph's constants are left.
    """
    smaller, skipped, kept = model.clone(), list[Skipped](), Kept()
    if scale.depth < 1:
        skipped += _drop_blocks(smaller, scale.depth, shapes_of(smaller, context))
    if scale.width < 1:
        cut = Prune(ratio=1 - scale.width, of="channels", scope="layer", criterion="magnitude")
        smaller, refused, kept = prune_channels(smaller, cut, context, advance)
        skipped += refused
    return smaller, skipped, kept


def _drop_blocks(model: ir.Model, depth: float, shapes: Shapes) -> list[Skipped]:
    """Drop residual blocks, evenly spaced: a dropped block's input replaces its output.

    Returns:
        A refusal for the whole graph if it has too few residual blocks.
    """
    blocks = [block for node in model.graph if (block := _block(node, shapes)) is not None]
    count = len(blocks) - max(1, round(depth * len(blocks)))
    if count < 1:
        reason = f"it has {len(blocks)} residual blocks, too few to keep {depth:.0%} of them"
        return [Skipped(node="the whole graph", reason=reason)]
    dropped = [(2 * index + 1) * len(blocks) // (2 * count) for index in range(count)]
    for index in dropped:
        node, shortcut = blocks[index]
        ir.convenience.replace_all_uses_with(
            node.outputs[0], _replacement(shortcut, blocks, dropped)
        )
    passes.RemoveUnusedNodesPass()(model)
    return []


def _replacement(value: ir.Value, blocks: list[Block], dropped: list[int]) -> ir.Value:
    """Return the value that replaces another once blocks are dropped, also consecutive ones."""
    replacements = {blocks[index][0].outputs[0]: blocks[index][1] for index in dropped}
    while value in replacements:
        value = replacements[value]
    return value


def _block(node: ir.Node, shapes: Shapes) -> Block | None:
    """Return the residual block that ends at a node; None if the node ends no residual block."""
    if node.op_type != "Add" or len(node.inputs) != 2 or node.outputs[0].is_graph_output():
        return None
    one, other = node.inputs
    if one is None or other is None or one.const_value or other.const_value:
        return None
    if shapes.get(str(one.name)) != shapes.get(str(other.name)):
        return None
    for shortcut, branch in ((one, other), (other, one)):
        if shortcut.producer() is not None and _comes_from(branch, shortcut):
            return node, shortcut
    return None


def _comes_from(branch: ir.Value, start: ir.Value) -> bool:
    """Return whether every path from a graph input to ``branch`` passes through ``start``."""
    pending, visited = [branch], {start}
    while pending:
        value = pending.pop()
        if value in visited or value.const_value is not None:
            continue
        visited.add(value)
        node = value.producer()
        if node is None:
            return False
        pending += [operand for operand in node.inputs if operand is not None]
    return True
