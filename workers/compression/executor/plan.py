"""The steps that a graph was compiled to, and the loop that runs them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch.fx.traceback import annotate

from workers.compression import faults

Function = Callable[..., Any]
"""Computes a node. The arguments are the inputs that were not bound, in order, None for a missing
one; the result is the output, or a tuple of the outputs. It can be pickled: it is a function of a
module, or a partial of one."""


class PlanStep(NamedTuple):
    """One call. Slots are indices into the list of values; slot 0 is always None."""

    function: Function
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    free: tuple[int, ...]
    """Slots that no later step reads."""
    node: str
    """The label of the node that the step computes, for messages."""


class Plan(NamedTuple):
    """A graph, or a subgraph, as steps over a list of values."""

    size: int
    inputs: tuple[int, ...]
    """Slots of the graph's inputs; for a subgraph, followed by the slots of captured values."""
    outputs: tuple[int, ...]
    steps: tuple[PlanStep, ...]


def run(plan: Plan, values: list[Any]) -> list[Any]:
    """Run the steps of a plan. A value is freed as soon as its last reader has run.

    Args:
        plan: the plan to run.
        values: ``plan.size`` values with the inputs filled in; the list is changed.

    Raises:
        Exception: the exception of a step, with a note that names the node; see
            ``faults.node_of``.
    """
    node = ""
    try:
        for function, inputs, outputs, free, node in plan.steps:  # noqa: B007 (read on an error)
            result = function(*[values[slot] for slot in inputs])
            if type(result) is tuple:
                for slot, output in zip(outputs, result, strict=False):
                    values[slot] = output
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


def labelled(plan: Plan) -> Plan:
    """Return a plan of which each operation that torch exports has the label of its node."""
    steps = (
        step._replace(function=partial(_labelled, step.node, step.function)) for step in plan.steps
    )
    return plan._replace(steps=tuple(steps))


def _labelled(node: str, function: Function, *arguments: Any) -> Any:
    with annotate({faults.ANNOTATION: node}):
        return function(*arguments)
