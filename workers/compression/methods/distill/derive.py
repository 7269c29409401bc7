"""A student that is the graph itself, narrower and shallower, with its weights."""

from collections.abc import Callable

import onnx_ir as ir

from app.domain.steps import Prune, Skipped
from app.domain.steps.distill import Scale
from workers.compression.context import Context
from workers.compression.graph.editor import name_nodes
from workers.compression.methods.prune.channels import prune_channels


def derive(
    model: ir.Model, scale: Scale, context: Context, advance: Callable[[float], None]
) -> tuple[ir.Model, list[Skipped]]:
    """Keep a share of the residual blocks, and of each layer's channels those of largest norm.

    Args:
        model: the graph; not changed but for names that its nodes lack.
        scale: the shares.
        context: data, seed, threads.
        advance: told the fraction done.

    Returns:
        The smaller graph, and what was left alone.
    """
    name_nodes(model)
    smaller, skipped = model.clone(), list[Skipped]()
    if scale.width < 1:
        cut = Prune(ratio=1 - scale.width, of="channels", scope="layer", criterion="magnitude")
        smaller, refused = prune_channels(smaller, cut, context, advance)
        skipped += refused
    return smaller, skipped
