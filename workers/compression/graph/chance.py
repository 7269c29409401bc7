"""Finds nodes that draw random numbers: such a graph answers differently in each run."""

import onnx_ir as ir

from workers.compression import faults
from workers.compression.graph.operators import key_of, operand
from workers.compression.graph.subgraphs import nodes_of

RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
     "RandomUniformLike"}
)  # fmt: skip
"""The standard's operators whose outputs are random."""

_TRAINING = 2
"""The input of a Dropout that says whether it drops."""


def cause_of_chance(model: ir.Model) -> str | None:
    """Return why a graph answers differently each time, and what to do; None if nothing says so.

    Returns:
        Two sentences, of which the first names a node that draws random numbers.
    """
    node = next((node for node in nodes_of(model) if _draws(node)), None)
    if node is None:
        return None
    return (
        f"Node {faults.label(node)} draws random numbers, so that the model answers differently"
        " each time. Export it as for inference (of torch, call model.eval() first), and give it"
        " its noise as an input if it needs any."
    )


def why_untried(model: ir.Model) -> str:
    """Return why a graph has no trials: no inputs with answers that others can be held against."""
    return cause_of_chance(model) or (
        "The model accepted none of the random inputs that were tried, or answers differently each"
        " time."
    )


def way_to_newer_opset(model: ir.Model) -> str:
    """Return what to do about a graph that was not brought to a newer opset.

    A graph that answers differently each time is left as it is: no answer shows that a converter
    has kept its meaning.
    """
    return cause_of_chance(model) or "Export it with a newer opset."


def _draws(node: ir.Node) -> bool:
    domain, operator = key_of(node)
    if domain:
        return False
    training = operand(node, _TRAINING) if operator == "Dropout" else None
    if training is None:
        return operator in RANDOM
    constant = ir.convenience.get_const_tensor(training)
    return constant is None or bool(constant.numpy().any())
