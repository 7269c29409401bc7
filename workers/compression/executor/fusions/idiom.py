"""What an idiom is found with, and what finding it gives."""

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from workers.compression.executor.node import Node
from workers.compression.executor.plan import Function


@dataclass(frozen=True)
class Fusion:
    """One function in the place of several nodes.

    Attributes:
        build: gets a node whose inputs are ``inputs``.
        inputs: what the idiom reads.
        outputs: what it makes; those of the node that it stands for when None.
    """

    build: Callable[[Node], Function]
    inputs: tuple[ir.Value | None, ...]
    outputs: tuple[ir.Value, ...] | None = None


@dataclass(frozen=True)
class Surroundings:
    """The graph around an idiom.

    Attributes:
        wanted: values that are returned, so that an idiom must not skip them.
    """

    wanted: frozenset[ir.Value]

    def only(self, value: ir.Value | None, op_type: str) -> ir.Node | None:
        """Return the node that makes a value for one reader alone, if it is of a type."""
        node = value.producer() if value is not None else None
        if value is None or node is None or node.op_type != op_type or node.domain:
            return None
        readers = [use.node for use in value.uses()]
        alone = len(readers) == 1 and readers[0].graph is node.graph
        kept = value in self.wanted or value.is_graph_output()
        return node if alone and not kept else None


def number(value: ir.Value | None) -> float | None:
    """Return the value of a constant of one element."""
    tensor = value.const_value if value is not None and not value.is_graph_input() else None
    return float(tensor.numpy().reshape(())) if tensor is not None and tensor.size == 1 else None
