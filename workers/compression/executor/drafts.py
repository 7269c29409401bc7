"""Steps before it is known when their values are let go."""

from dataclasses import dataclass

import onnx_ir as ir

from workers.compression import faults
from workers.compression.executor.plan import Function, Step


@dataclass
class Draft:
    """A step before it is known which of its values are read later."""

    node: ir.Node
    """Of the graph; the last one where the step stands for several."""
    op_type: str
    """The node's; empty where the step stands for more or less than a node."""
    function: Function
    inputs: list[int]
    outputs: list[int]


def steps_of(drafts: list[Draft], keep: set[int]) -> tuple[Step, ...]:
    """Let each value go after its last reader."""
    seen, steps = set(keep), list[Step]()
    for draft in reversed(drafts):
        used = dict.fromkeys([*draft.inputs, *draft.outputs])
        free = tuple(slot for slot in used if slot not in seen)
        seen |= set(free)
        inputs, outputs = tuple(draft.inputs), tuple(draft.outputs)
        steps.append(Step(draft.function, inputs, outputs, free, faults.label(draft.node)))
    return tuple(reversed(steps))
