"""Pruning: what contributes least is taken away.

Three ideas stand in three places: what hangs together (``groups``), how much it contributes
(``importance``), and how it is cut (``cut``).
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
        StepFailed: the parameters need what is not there: data, a gradient, a weight.
    """
    if parameters.granularity == "channel":
        return prune_in_rounds(model, parameters, context, advance)
    return prune_weights(model, parameters, context, advance)
