"""What the builder of an operator sees of a node."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.executor.plan import Plan
from workers.compression.graph.operators import is_layer

Array = NDArray[Any]

Key = tuple[ir.Value, bool]
"""A value, and whether it is wanted in host memory: matters for constants only."""


class Unsupported(Exception):  # noqa: N818 (a refusal, not an error)
    """A form of an operator that has no function here; its text says which."""


class Node:
    """A node whose constant inputs can be taken, so that they are bound instead of passed.

    Attributes:
        op_type: the operator.
        inputs: the values, None where an optional one is missing.
        outputs: the values.
        taken: the slots that were bound.
        sizes: the slots that are read as numbers (shapes, axes, counts) when the node is run.
        statistics: the slots of what was measured and is not trained.
        blocks: why no gradient passes through the function, None if one does.
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
        self.taken: set[int] = set()
        self.sizes: set[int] = set()
        self.statistics: set[int] = set()
        self.blocks: str | None = None
        self.captured: list[Key] = []
        self._node, self._constant, self._subplan = node, constant, subplan

    def forget(self) -> None:
        """Undo what a builder did before it refused."""
        for done in (self.taken, self.sizes, self.statistics, self.captured):
            done.clear()

    def has(self, slot: int) -> bool:
        """Return whether an input is given."""
        return slot < len(self.inputs) and self.inputs[slot] is not None

    def wants(self, slot: int) -> bool:
        """Return whether somebody may read an output."""
        return slot < len(self.outputs) and self.outputs[slot].name not in {None, ""}

    def constant(self, slot: int) -> Array | None:
        """Return an input's value when it is known, without taking it."""
        return self._constant(self.inputs[slot]) if self.has(slot) else None

    def take(self, *slots: int) -> list[Array | None] | None:
        """Take inputs that say sizes: all of them, or none when one is computed.

        Returns:
            Their values, None for a missing one; or None when the function gets them as tensors,
            which lie in host memory when they derive from shapes.
        """
        self.sizes |= set(slots)
        values = [self.constant(slot) for slot in slots]
        if any(value is None and self.has(slot) for slot, value in zip(slots, values, strict=True)):
            return None
        self.taken |= set(slots)
        return values

    def number(self, slot: int) -> float | int | bool | None:
        """Take an input of an operator on two that is one element: a number of the formula.

        The bias of a product is none, even if it is one element; neither is what gives the result
        its rank.
        """
        value = self.constant(slot)
        if value is None or value.size != 1 or self._is_bias(1 - slot):
            return None
        if value.ndim and value.ndim > (self.rank(1 - slot) or 0):
            return None
        self.taken.add(slot)
        number: float | int | bool = value.astype(_plain(value.dtype)).item()
        return number

    def _is_bias(self, other: int) -> bool:
        value = self.inputs[other] if self.has(other) else None
        before = None if value is None else value.producer()
        return self.op_type == "Add" and before is not None and is_layer(before)

    def rank(self, slot: int) -> int | None:
        """Return the number of dimensions of an input, when it is known."""
        value = self.inputs[slot] if self.has(slot) else None
        return None if value is None or value.shape is None else len(value.shape)

    def dtype(self, slot: int) -> ir.DataType | None:
        """Return the element type of an input, when it is known."""
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
        """Return a list of integers, None when it is missing."""
        values = self._node.attributes.get_ints(name)
        return None if values is None else tuple(values)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts, empty when it is missing."""
        return tuple(self._node.attributes.get_strings(name) or ())

    def reals(self, name: str) -> tuple[float, ...]:
        """Return a list of floats, empty when it is missing."""
        return tuple(self._node.attributes.get_floats(name) or ())

    def tensor(self, name: str) -> Array | None:
        """Return a tensor attribute."""
        value = self._node.attributes.get_tensor(name)
        return None if value is None else value.numpy()

    def plan(self, name: str) -> tuple[Plan, int]:
        """Compile a subgraph.

        Returns:
            The plan, and how many captured values it takes after its own inputs.
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
    return None if value is None else tuple(int(each) for each in value.reshape(-1))
