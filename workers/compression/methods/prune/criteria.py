"""The criteria by name: what tells how much a unit contributes."""

from collections.abc import Callable

import onnx_ir as ir

from app.domain.steps import Prune
from workers.compression.context import Context
from workers.compression.methods.prune import importance
from workers.compression.methods.prune.activations import apoz
from workers.compression.methods.prune.gradients import by_gradient
from workers.compression.methods.prune.groups import Analysis
from workers.compression.methods.prune.importance import Scores


def score(
    model: ir.Model,
    analysis: Analysis,
    parameters: Prune,
    context: Context,
    advance: Callable[[float], None],
) -> Scores:
    """Score the units of a graph, so that groups compete.

    Args:
        model: the graph; not changed.
        analysis: what hangs together.
        parameters: the criterion.
        context: data and seed.
        advance: told the fraction done.
    """
    found = importance.weights(model)
    kind = parameters.criterion
    if kind == "random":
        scores = importance.random(analysis, context.seed)
    elif kind in ("taylor", "hessian"):
        scores = by_gradient(kind, model, found, analysis, context, advance)
    elif kind == "apoz":
        scores = apoz(model, analysis, context, advance)
    elif kind == "fpgm":
        scores = importance.fpgm(found, analysis)
    elif kind == "bn_scale":
        scores = importance.bn_scale(found, analysis, model)
    else:
        scores = importance.magnitude(found, analysis, parameters.norm)
    if kind == "lamp":
        return importance.lamp(scores, analysis)
    return importance.normalized(scores, analysis)
