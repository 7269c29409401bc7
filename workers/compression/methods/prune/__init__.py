"""Pruning: what contributes least is taken away.

Three ideas stand in three places: what hangs together (``groups``), how much it contributes
(``importance``), and how it is cut (``cut``).
"""

from collections.abc import Callable

import onnx_ir as ir

from app.domain.steps import Prune
from workers.compression.context import Context
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune.channels import prune_channels


def prune(
    model: ir.Model, parameters: Prune, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Prune a graph as the parameters say."""
    smaller, layers, skipped = prune_channels(model, parameters, context, advance)
    return Outcome(smaller, layers, skipped)
