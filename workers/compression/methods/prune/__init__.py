"""Pruning: the channels or weights that contribute least are removed.

Three modules hold the three ideas: ``groups`` finds the coupled channels, ``importance`` scores
them, and ``cut`` removes them.
"""

from collections.abc import Callable

import onnx_ir as ir

from app.domain.steps import Prune
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune.rounds import prune_in_rounds
from workers.compression.methods.prune.sparse import prune_weights
from workers.compression.samples.context import Context


def prune(
    model: ir.Model, parameters: Prune, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Prune a graph as the parameters say.

    Raises:
        StepFailed: the criterion needs data or a gradient, and there is none.
    """
    if parameters.granularity == "channel":
        return prune_in_rounds(model, parameters, context, advance)
    return prune_weights(model, parameters, context, advance)
