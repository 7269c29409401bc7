"""The steps that a graph was compiled to, and the loop that runs them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from workers.compression import faults

Function = Callable[..., Any]
"""Computes a node: from the inputs that were not taken, in order (None for a missing one), to its
output, or a tuple of its outputs. Can be pickled: a function of a module, or a partial of one."""


class Step(NamedTuple):
    """One call. Slots are indices into the list of values; slot 0 is always None."""

    function: Function
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    free: tuple[int, ...]
    """Slots that nobody reads after this step."""
    node: str
    """The node that the step stands for, as messages call it."""


class Plan(NamedTuple):
    """A graph, or a subgraph, as steps over a list of values."""

    size: int
    inputs: tuple[int, ...]
    """Slots of the graph's inputs, for a subgraph followed by those of captured values."""
    outputs: tuple[int, ...]
    steps: tuple[Step, ...]


def run(plan: Plan, values: list[Any]) -> list[Any]:
    """Run the steps; a value is let go as soon as its last reader ran.

    Args:
        plan: what to run.
        values: ``plan.size`` values with the inputs filled in; emptied on the way.

    Raises:
        Exception: a step's, with a note that says at which node; see ``faults.node_of``.
    """
    node = ""
    try:
        for function, inputs, outputs, free, node in plan.steps:  # noqa: B007 (read on an error)
            result = function(*[values[slot] for slot in inputs])
            if type(result) is tuple:
                for slot, each in zip(outputs, result, strict=False):
                    values[slot] = each
            else:
                values[outputs[0]] = result
            for slot in free:
                values[slot] = None
    except Exception as error:
        faults.note_node(error, node)
        raise
    return [values[slot] for slot in plan.outputs]


def call(plan: Plan, arguments: Sequence[Any]) -> list[Any]:
    """Run a plan on its inputs, in order."""
    values: list[Any] = [None] * plan.size
    for slot, value in zip(plan.inputs, arguments, strict=True):
        values[slot] = value
    return run(plan, values)
