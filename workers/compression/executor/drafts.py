"""Drafts of steps: they do not say yet which values each step frees."""

from dataclasses import dataclass

import onnx_ir as ir

from workers.compression import faults
from workers.compression.executor.plan import Function, PlanStep


@dataclass
class Draft:
    """A step without the list of values that are freed after it."""

    node: ir.Node
    """The graph's node that the step computes; the last of several fused nodes."""
    op_type: str
    """The node's operator; empty where the step computes several nodes, or only copies a value."""
    function: Function
    inputs: list[int]
    outputs: list[int]


def steps_of(drafts: list[Draft], keep: set[int]) -> tuple[PlanStep, ...]:
    """Turn drafts into steps that free each value after its last reader.

    Args:
        drafts: the steps in the order in which they run.
        keep: slots that are never freed.
    """
    read_later, steps = set(keep), list[PlanStep]()
    for draft in reversed(drafts):
        used = dict.fromkeys([*draft.inputs, *draft.outputs])
        free = tuple(slot for slot in used if slot not in read_later)
        read_later |= set(free)
        inputs, outputs = tuple(draft.inputs), tuple(draft.outputs)
        steps.append(PlanStep(draft.function, inputs, outputs, free, faults.label(draft.node)))
    return tuple(reversed(steps))
