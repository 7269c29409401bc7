"""What is known of a graph's dimensions while its nodes are followed in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.methods.prune.units import FIXED, Label, Units, merge

Labels = tuple[Label, ...]
"""A label for each dimension of a value."""


class UnknownShape(Exception):  # noqa: N818 (a refusal of a rule, not an error)
    """A rule needs a shape that could not be found."""


@dataclass(frozen=True)
class Site:
    """A node's operand and the axis over which the node sums."""

    node: ir.Node
    slot: int
    axis: int


@dataclass
class Trace:
    """The labels of all values so far. Rules read and write it."""

    shapes: Mapping[str, tuple[int, ...]]
    """Of values, for one choice of the dynamic dimensions."""
    units: Units = field(default_factory=Units)
    labels: dict[ir.Value, Labels] = field(default_factory=dict)
    splits: list[Label] = field(default_factory=list)
    """Labels of dimensions that no value has: a grouped convolution's groups, say."""
    sums: list[Site] = field(default_factory=list)

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """Return a value's shape.

        Raises:
            UnknownShape: it was found by no means.
        """
        if value.const_value is not None:
            return tuple(value.const_value.shape.numpy())
        if (shape := self.shapes.get(str(value.name))) is None:
            raise UnknownShape(f"the shape of '{value.name}' is not known")
        return shape

    def of(self, value: ir.Value) -> Labels:
        """Return the labels of a value; a float initializer starts with units of its own."""
        if value not in self.labels:
            shape = self.shape(value)
            floating = value.dtype is not None and value.dtype.is_floating_point()
            own = value.is_initializer() and not value.is_graph_input() and floating
            self.labels[value] = tuple(self.units.fresh(n) if own else FIXED for n in shape)
        return self.labels[value]

    def fix(self, value: ir.Value, reason: str, axes: Sequence[int] | None = None) -> None:
        """Keep dimensions of a value for good; all of them unless ``axes`` says which."""
        labels = self.of(value)
        for axis in range(len(labels)) if axes is None else axes:
            self.units.fix(labels[axis], reason)

    def split(self, label: Label, sizes: Sequence[int]) -> list[Label]:
        """Cut one dimension up into several that no value has."""
        labels = self.units.split(label, sizes)
        self.splits += labels
        return labels

    def reshape(self, value: ir.Value, shape: Sequence[int]) -> Labels:
        """Return the labels of a value whose elements are laid out in another shape."""
        labels, found = self.of(value), list[Label]()
        for old, new in _blocks(self.shape(value), shape):
            sizes = [self.shape(value)[axis] for axis in old]
            flat = merge([labels[axis] for axis in old], sizes)
            found += self.units.split(flat, [shape[axis] for axis in new])
        return tuple(found)


def _blocks(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Pair the smallest runs of axes that hold the same elements before and after a reshape."""
    blocks: list[tuple[list[int], list[int]]] = []
    old, new = list(range(len(before))), list(range(len(after)))
    if prod(before) == 0 or prod(before) != prod(after):
        raise UnknownShape("it has no elements")
    while old or new:
        left, right = old[:1], new[:1]
        old, new = old[1:], new[1:]
        while (a := prod(before[i] for i in left)) != (b := prod(after[i] for i in right)) or (
            not left or not right
        ):
            if (a < b or not left) and old:
                left.append(old.pop(0))
            elif new:
                right.append(new.pop(0))
            else:
                break
        blocks.append((left, right))
    return blocks


def constant_of(value: ir.Value | None) -> NDArray[np.generic] | None:
    """Return the values of a constant, None for what is computed or absent."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()
