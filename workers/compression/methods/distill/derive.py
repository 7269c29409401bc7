"""A student that is the graph itself, narrower and shallower, with its weights."""

from collections.abc import Callable

import onnx_ir as ir
import onnx_ir.passes.common as passes

from app.domain.steps import Prune, Skipped
from app.domain.steps.distill import Scale
from workers.compression.graph.shapes import Shapes
from workers.compression.methods.distill.taps import shapes_of
from workers.compression.methods.prune.channels import prune_channels
from workers.compression.samples.context import Context

Block = tuple[ir.Node, ir.Value]
"""The sum of a residual block, and what is added to."""


def derive(
    model: ir.Model, scale: Scale, context: Context, advance: Callable[[float], None]
) -> tuple[ir.Model, list[Skipped]]:
    """Keep a share of the residual blocks, and of each layer's channels those of largest norm.

    Args:
        model: the graph, whose nodes have names; not changed.
        scale: the shares.
        context: data, seed, threads.
        advance: told the fraction done.

    Returns:
        The smaller graph, and what was left alone.
    """
    smaller, skipped = model.clone(), list[Skipped]()
    if scale.depth < 1:
        skipped += _drop_blocks(smaller, scale.depth, shapes_of(smaller, context))
    if scale.width < 1:
        cut = Prune(ratio=1 - scale.width, of="channels", scope="layer", criterion="magnitude")
        smaller, refused = prune_channels(smaller, cut, context, advance)
        skipped += refused
    return smaller, skipped


def _drop_blocks(model: ir.Model, depth: float, shapes: Shapes) -> list[Skipped]:
    """Let the sums of some residual blocks be what was added to, the dropped ones evenly spread.

    Returns:
        What was left alone: the whole graph, where it has no such block.
    """
    blocks = [found for node in model.graph if (found := _block(node, shapes)) is not None]
    count = len(blocks) - max(1, round(depth * len(blocks)))
    if count < 1:
        reason = f"it has {len(blocks)} residual blocks, too few to keep {depth:.0%} of them"
        return [Skipped(node="the whole graph", reason=reason)]
    spread = [(2 * place + 1) * len(blocks) // (2 * count) for place in range(count)]
    for place in spread:
        node, kept = blocks[place]
        ir.convenience.replace_all_uses_with(node.outputs[0], _now(kept, blocks, spread))
    passes.RemoveUnusedNodesPass()(model)
    return []


def _now(kept: ir.Value, blocks: list[Block], dropped: list[int]) -> ir.Value:
    """Return what stands for a value once blocks are dropped: they may follow each other."""
    passed = {blocks[place][0].outputs[0]: blocks[place][1] for place in dropped}
    while kept in passed:
        kept = passed[kept]
    return kept


def _block(node: ir.Node, shapes: Shapes) -> Block | None:
    """Return a sum and the operand that its other operand is computed from, if it is such a sum."""
    if node.op_type != "Add" or len(node.inputs) != 2 or node.outputs[0].is_graph_output():
        return None
    one, other = node.inputs
    if one is None or other is None or one.const_value or other.const_value:
        return None
    if shapes.get(str(one.name)) != shapes.get(str(other.name)):
        return None
    for kept, branch in ((one, other), (other, one)):
        if kept.producer() is not None and _comes_from(branch, kept):
            return node, kept
    return None


def _comes_from(branch: ir.Value, start: ir.Value) -> bool:
    """Return whether all that a value is computed from, constants aside, passes ``start``."""
    waiting, seen = [branch], {start}
    while waiting:
        value = waiting.pop()
        if value in seen or value.const_value is not None:
            continue
        seen.add(value)
        node = value.producer()
        if node is None:
            return False
        waiting += [each for each in node.inputs if each is not None]
    return True
