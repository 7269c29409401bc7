"""The criteria by name: what tells how much a unit contributes."""

from collections.abc import Callable

import onnx_ir as ir

from app.domain.problems import InvalidModel, StepFailed
from app.domain.steps import Prune
from workers.compression.methods.prune import importance
from workers.compression.methods.prune.activations import apoz
from workers.compression.methods.prune.gradients import by_gradient
from workers.compression.methods.prune.groups import Analysis
from workers.compression.methods.prune.importance import Scores, Weights
from workers.compression.samples.context import Context


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
    if kind == "lamp":
        return importance.lamp(importance.magnitude(found, analysis, "l2"), analysis)
    if kind == "auto":
        scores = _best(model, found, analysis, context, advance)
    elif kind in ("taylor", "hessian"):
        scores = by_gradient(kind, model, found, analysis, context, advance)
    elif kind == "apoz":
        scores = apoz(model, analysis, context, advance)
    elif kind == "random":
        scores = importance.random(analysis, context.seed)
    elif kind == "fpgm":
        scores = importance.fpgm(found, analysis)
    elif kind == "bn_scale":
        scores = importance.bn_scale(found, analysis, model)
    else:
        scores = importance.magnitude(found, analysis, parameters.norm)
    return importance.normalized(scores, analysis)


def _best(
    model: ir.Model,
    found: Weights,
    analysis: Analysis,
    context: Context,
    advance: Callable[[float], None],
) -> Scores:
    """Score by what is known: gradients on data, else weights alone."""
    if context.train is not None and len(context.train):
        try:
            return by_gradient("hessian", model, found, analysis, context, advance)
        except (StepFailed, InvalidModel):
            pass  # no gradient reaches the weights of this graph
    return importance.magnitude(found, analysis, "l2")
