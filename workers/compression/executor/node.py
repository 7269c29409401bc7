"""The view of a node that the builder of an operator gets."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.executor.plan import Plan
from workers.compression.graph.operators import is_layer

Array = NDArray[Any]

Key = tuple[ir.Value, bool]
"""A value, and whether it must lie in host memory. The second matters for constants only."""


class Unsupported(Exception):  # noqa: N818 (a refusal, not an error)
    """The executor does not support a node; the text names the operator, and the form it has."""


class Node:
    """A node whose constant inputs can be bound to its function instead of passed on each run.

    Attributes:
        op_type: the operator.
        inputs: the input values, None for a missing optional input.
        outputs: the output values.
        bound: the slots of the inputs that were bound.
        sizes: the slots that are read as numbers (shapes, axes, counts) when the node runs.
        statistics: the slots of measured statistics, which are not trained.
        no_gradient_reason: why no gradient passes through the function; None if one does.
        captured: values of the surrounding graphs that subgraphs read; passed after the inputs.
    """

    def __init__(
        self,
        node: ir.Node,
        inputs: Sequence[ir.Value | None],
        constant: Callable[[ir.Value | None], Array | None],
        subplan: Callable[[ir.Graph], tuple[Plan, list[Key]]],
    ) -> None:
        self.op_type = node.op_type
        self.inputs, self.outputs = tuple(inputs), tuple(node.outputs)
        self.bound: set[int] = set()
        self.sizes: set[int] = set()
        self.statistics: set[int] = set()
        self.no_gradient_reason: str | None = None
        self.captured: list[Key] = []
        self._node, self._constant, self._subplan = node, constant, subplan

    def forget(self) -> None:
        """Undo the changes of a builder that raised ``Unsupported``."""
        for record in (self.bound, self.sizes, self.statistics, self.captured):
            record.clear()

    def has(self, slot: int) -> bool:
        """Return whether the node has an input in a slot."""
        return slot < len(self.inputs) and self.inputs[slot] is not None

    def is_read(self, slot: int) -> bool:
        """Return whether an output has a name, so that other nodes may read it."""
        return slot < len(self.outputs) and self.outputs[slot].name not in {None, ""}

    def constant(self, slot: int) -> Array | None:
        """Return the elements of a constant input, without binding it; None if it is computed."""
        return self._constant(self.inputs[slot]) if self.has(slot) else None

    def bind(self, *slots: int) -> list[Array | None] | None:
        """Bind inputs that are sizes: all of them, or none if one of them is computed.

        Returns:
            The elements of each input, None for a missing input. None if no input was bound: then
            the function gets the inputs as tensors, which lie in host memory where they are
            computed from shapes.
        """
        self.sizes |= set(slots)
        values = [self.constant(slot) for slot in slots]
        if any(value is None and self.has(slot) for slot, value in zip(slots, values, strict=True)):
            return None
        self.bound |= set(slots)
        return values

    def number(self, slot: int) -> float | int | bool | None:
        """Bind one input of a binary operator if it is a constant of one element; return it.

        The bias of a layer is not bound, even if it has one element. Neither is an input that has
        more dimensions than the other: it determines the rank of the result.
        """
        value = self.constant(slot)
        if value is None or value.size != 1 or self._is_bias(1 - slot):
            return None
        if value.ndim and value.ndim > (self.rank(1 - slot) or 0):
            return None
        self.bound.add(slot)
        number: float | int | bool = value.astype(_plain(value.dtype)).item()
        return number

    def _is_bias(self, other: int) -> bool:
        value = self.inputs[other] if self.has(other) else None
        producer = None if value is None else value.producer()
        return self.op_type == "Add" and producer is not None and is_layer(producer)

    def rank(self, slot: int) -> int | None:
        """Return the number of dimensions of an input; None if it is unknown."""
        value = self.inputs[slot] if self.has(slot) else None
        return None if value is None or value.shape is None else len(value.shape)

    def dtype(self, slot: int) -> ir.DataType | None:
        """Return the element type of an input; None if it is unknown."""
        value = self.inputs[slot] if self.has(slot) else None
        return None if value is None else value.dtype

    def integer(self, name: str, default: int = 0) -> int:
        """Return an integer attribute."""
        return self._node.attributes.get_int(name, default)

    def real(self, name: str, default: float = 0.0) -> float:
        """Return a float attribute."""
        return self._node.attributes.get_float(name, default)

    def text(self, name: str, default: str = "") -> str:
        """Return a text attribute."""
        return self._node.attributes.get_string(name, default)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return an attribute that is a list of integers; None if it is missing."""
        values = self._node.attributes.get_ints(name)
        return None if values is None else tuple(values)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return an attribute that is a list of texts; an empty one if it is missing."""
        return tuple(self._node.attributes.get_strings(name) or ())

    def tensor(self, name: str) -> Array | None:
        """Return a tensor attribute."""
        value = self._node.attributes.get_tensor(name)
        return None if value is None else value.numpy()

    def plan(self, name: str) -> tuple[Plan, int]:
        """Compile a subgraph.

        Returns:
            The plan, and the number of captured values that it takes after the graph's inputs.
        """
        graph = self._node.attributes.get_graph(name)
        assert graph is not None
        plan, captured = self._subplan(graph)
        self.captured += captured
        return plan, len(captured)


def _plain(dtype: np.dtype[Any]) -> type:
    return {"b": bool, "i": int, "u": int}.get(dtype.kind, float)


def listed(value: Array | None) -> tuple[int, ...] | None:
    """Return a constant's elements as Python integers."""
    return None if value is None else tuple(int(element) for element in value.reshape(-1))
