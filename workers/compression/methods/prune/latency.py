"""Allocates units by latency: single layers are timed at many widths, then the whole graph.

Fewer multiply-accumulates do not always take less time: time is a staircase in width. So each layer
is timed alone, as a graph of one node, once for every pair of widths that the allocation considers.
The saving that the allocation estimates is then measured, and corrected, on the whole graph.
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from app.domain.steps import Prune
from workers.compression.graph.operators import is_layer
from workers.compression.measure.clock import LayerTimes, Shape, alone
from workers.compression.methods.prune.costs import shape_left
from workers.compression.methods.prune.cut import cut
from workers.compression.methods.prune.groups import Analysis, Removed
from workers.compression.methods.prune.importance import Scores
from workers.compression.methods.prune.learned import allocate_as
from workers.compression.methods.prune.survey import Survey
from workers.compression.methods.saving import reach
from workers.compression.samples.context import Context, Feeds


def allocate_time(
    model: ir.Model,
    analysis: Analysis,
    scores: Scores,
    survey: Survey,
    parameters: Prune,
    context: Context,
    advance: Callable[[float], None],
) -> tuple[Removed, float]:
    """Choose the least important units to remove, so that the graph takes less time.

    Widths that save no time are restored. The saving is measured on the whole graph, whose other
    operators take time too, and the share to save is corrected by the difference.

    Args:
        model: the graph; not changed.
        analysis: the coupled units of the graph.
        scores: the importance of each unit.
        survey: one sample and its shapes.
        parameters: the ratio, the scope, and the multiple of channels to keep.
        context: threads, and the events of the saved latency.
        advance: called with the fraction done, where choosing takes long.

    Returns:
        The removed units, and the share of the whole graph's time that was saved.
    """
    times = LayerTimes(context.threads, context.known_times)
    nodes = [node for node in model.graph if is_layer(node)]
    attempts: list[Removed] = []

    choose = allocate_as(parameters, model, analysis, scores, context, advance)

    def cost(removed: Removed) -> float:
        return sum(layer_time(node, removed, analysis, survey.sample, times) for node in nodes)

    def attempt(share: float) -> tuple[Removed, ir.Model] | None:
        removed = choose(cost, share)
        if any(np.array_equal(removed, earlier) for earlier in attempts):
            return None
        attempts.append(removed)
        return removed, cut(model.clone(), analysis, removed)

    return reach(model, parameters.ratio, attempt, survey.one, context)


def layer_time(
    node: ir.Node,
    removed: Removed,
    analysis: Analysis,
    shapes: Mapping[str, Shape],
    times: LayerTimes,
) -> float:
    """Return the milliseconds that a node takes once units are removed; 0 if that is unknown."""
    shapes_left = tuple(shape_left(value, analysis, shapes, removed) for value in node.inputs)
    data, weight = shapes_left[0], shapes_left[1]
    groups_before = groups = node.attributes.get_int("group", 1)
    if groups > 1:
        if node.op_type != "Conv" or data is None or weight is None:
            return 0.0
        groups = data[1] // weight[1]
    if any(0 in shape for shape in shapes_left if shape is not None) or None in shapes_left[:2]:
        return 0.0
    change = () if groups == groups_before else ("group", groups)

    def make() -> tuple[ir.Model, Feeds]:
        model, feeds = alone(node, shapes_left)
        if change:
            model.graph[0].attributes["group"] = ir.AttrInt64("group", groups)
        return model, feeds

    try:
        return times.of(node, shapes_left, make, change)
    except Exception:  # noqa: BLE001 (a layer that does not run alone is not timed)
        return 0.0
