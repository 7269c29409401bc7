"""The weights that a method may store in another form, each with the node that reads it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from app.domain.steps import Skipped
from workers.compression.graph.editor import constant
from workers.compression.graph.operators import holds_unknown_weights, operand, operator_of


@dataclass(frozen=True)
class WeightUse:
    """A weight, and the first node that reads it."""

    node: ir.Node
    value: ir.Value

    @property
    def name(self) -> str:
        """The node's name."""
        return str(self.node.name)

    @property
    def weight(self) -> str:
        """The weight's name."""
        return str(self.value.name)


def weight_uses(
    model: ir.Model, unfit: Callable[[WeightUse], str | None], undone: str
) -> tuple[list[WeightUse], list[Skipped]]:
    """Return each weight that can be stored in another form once, and the refusals of the others.

    Args:
        model: the graph.
        unfit: returns why a weight stays as it is; None if it can be stored in another form.
        undone: what is not done to weights of operators that are not known, in words.
    """
    uses: dict[ir.Value, WeightUse] = {}
    skipped = []
    for node in model.graph.all_nodes():
        if holds_unknown_weights(node):
            reason = f"weights of {node.op_type} are {undone}"
            skipped.append(Skipped(node=str(node.name), reason=reason))
        operator = operator_of(node)
        slots = operator.weights if operator is not None else ()
        for value in (operand(node, slot) for slot in slots):
            if value is None or not value.is_initializer() or value in uses:
                continue
            use = WeightUse(node, value)
            if (why := unfit(use)) is None:
                uses[value] = use
            else:
                skipped.append(Skipped(node=use.name, reason=why))
    return list(uses.values()), skipped


def unfit_weight(use: WeightUse, model: ir.Model) -> str | None:
    """Return why a weight cannot be stored in another form, whichever that is; None if it can."""
    value = use.value
    if value.dtype != ir.DataType.FLOAT:
        return f"its weight is {value.dtype}, not float32"
    if value.graph is not model.graph or value.is_graph_output() or value.is_graph_input():
        return "its weight is an input or output of the graph, or of a branch or loop in it"
    return None if np.isfinite(constant(value)).all() else "its weights are not all finite"
