"""The types of idiom matching: the context that a matcher reads, and the fusion it returns."""

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from workers.compression.executor.node import Node
from workers.compression.executor.plan import Function


@dataclass(frozen=True)
class Fusion:
    """One function that replaces several nodes.

    Attributes:
        build: builds the function for a node whose inputs are ``inputs``.
        inputs: the values that the idiom reads.
        outputs: the values that the idiom computes; None stands for the outputs of the node that
            it replaces.
    """

    build: Callable[[Node], Function]
    inputs: tuple[ir.Value | None, ...]
    outputs: tuple[ir.Value, ...] | None = None


@dataclass(frozen=True)
class MatchContext:
    """The facts about a graph that a matcher needs.

    Attributes:
        returned: values that are returned: a fusion must not leave them out.
    """

    returned: frozenset[ir.Value]

    def sole_producer(self, value: ir.Value | None, op_type: str) -> ir.Node | None:
        """Return a value's producer if it is of a type and the value has a single reader."""
        node = value.producer() if value is not None else None
        if value is None or node is None or node.op_type != op_type or node.domain:
            return None
        readers = [use.node for use in value.uses()]
        has_one_reader = len(readers) == 1 and readers[0].graph is node.graph
        is_returned = value in self.returned or value.is_graph_output()
        return node if has_one_reader and not is_returned else None


def number(value: ir.Value | None) -> float | None:
    """Return the value of a constant of one element; None for any other value."""
    tensor = value.const_value if value is not None and not value.is_graph_input() else None
    return float(tensor.numpy().reshape(())) if tensor is not None and tensor.size == 1 else None
