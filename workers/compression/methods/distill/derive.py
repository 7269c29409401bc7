"""Derives a student from the graph: a narrower and shallower copy that keeps its weights."""

from collections.abc import Callable

import onnx_ir as ir

from app.domain.steps import Prune, Skipped
from app.domain.steps.distill import Scale
from workers.compression.graph import residual
from workers.compression.graph.kept import Kept
from workers.compression.graph.shapes import Shapes
from workers.compression.methods.distill.taps import shapes_of
from workers.compression.methods.prune.channels import prune_channels
from workers.compression.methods.saving import WHOLE
from workers.compression.samples.context import Context


def derive(
    model: ir.Model,
    scale: Scale,
    context: Context,
    advance: Callable[[float], None],
    multiple: int | None = None,
) -> tuple[ir.Model, list[Skipped], Kept]:
    """Keep a share of the residual blocks, and a share of each layer's channels.

    The channels with the largest norm are kept.

    Args:
        model: the graph, whose nodes have names; not changed.
        scale: the shares.
        context: data, seed, threads.
        advance: called with the fraction done.
        multiple: layers keep a multiple of this many channels; None takes that of ``prune``.

    Returns:
        The smaller graph, the refusals, and which indices of the graph's constants are left.
    """
    smaller, skipped, kept = model.clone(), list[Skipped](), Kept()
    if scale.depth < 1:
        skipped += _drop_blocks(smaller, scale.depth, shapes_of(smaller, context))
    if scale.width < 1:
        cut = Prune(
            ratio=1 - scale.width, of="channels", scope="layer", criterion="magnitude",
            multiple=multiple,
        )  # fmt: skip
        smaller, refused, kept = prune_channels(smaller, cut, context, advance)
        skipped += refused
    return smaller, skipped, kept


def _drop_blocks(model: ir.Model, depth: float, shapes: Shapes) -> list[Skipped]:
    """Drop residual blocks, evenly spaced: a dropped block's input replaces its output.

    Returns:
        A refusal for the whole graph if it has too few residual blocks.
    """
    names = [block.name for block in residual.blocks(model, shapes)]
    count = len(names) - max(1, round(depth * len(names)))
    if count < 1:
        reason = f"it has {len(names)} residual blocks, too few to keep {depth:.0%} of them"
        return [Skipped(node=WHOLE, reason=reason)]
    dropped = [names[(2 * index + 1) * len(names) // (2 * count)] for index in range(count)]
    residual.drop(model, shapes, dropped)
    return []
