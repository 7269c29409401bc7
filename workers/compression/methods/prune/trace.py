"""The labels of a graph's dimensions, collected while its nodes are followed in order."""

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
    """A rule needs a shape that is unknown."""


@dataclass(frozen=True)
class SummedAxis:
    """A node, the slot of an operand, and the axis of the operand over which the node sums."""

    node: ir.Node
    slot: int
    axis: int


@dataclass
class Trace:
    """The labels of all values so far. Rules read and write it."""

    shapes: Mapping[str, tuple[int, ...]]
    """The shapes of values, by name, for one choice of the dynamic dimensions."""
    units: Units = field(default_factory=Units)
    labels: dict[ir.Value, Labels] = field(default_factory=dict)
    splits: list[Label] = field(default_factory=list)
    """Labels of dimensions that no value has, such as the groups of a grouped convolution."""
    sums: list[SummedAxis] = field(default_factory=list)

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """Return a value's shape.

        Raises:
            UnknownShape: the shape is unknown.
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
            has_units = value.is_initializer() and not value.is_graph_input() and floating
            self.labels[value] = tuple(self.units.fresh(n) if has_units else FIXED for n in shape)
        return self.labels[value]

    def fix(self, value: ir.Value, reason: str, axes: Sequence[int] | None = None) -> None:
        """Fix dimensions of a value, so that they never shrink: ``axes``, or all of them."""
        labels = self.of(value)
        for axis in range(len(labels)) if axes is None else axes:
            self.units.fix(labels[axis], reason)

    def split(self, label: Label, sizes: Sequence[int]) -> list[Label]:
        """Split a dimension into several dimensions that no value has."""
        labels = self.units.split(label, sizes)
        self.splits += labels
        return labels

    def reshape(self, value: ir.Value, shape: Sequence[int]) -> Labels:
        """Return the labels of a value whose elements are laid out in another shape."""
        labels, new_labels = self.of(value), list[Label]()
        for old, new in _blocks(self.shape(value), shape):
            sizes = [self.shape(value)[axis] for axis in old]
            flat = merge([labels[axis] for axis in old], sizes)
            new_labels += self.units.split(flat, [shape[axis] for axis in new])
        return tuple(new_labels)


def _blocks(
    old_shape: Sequence[int], new_shape: Sequence[int]
) -> list[tuple[list[int], list[int]]]:
    """Pair the smallest runs of axes that hold the same elements before and after a reshape."""
    blocks: list[tuple[list[int], list[int]]] = []
    old, new = list(range(len(old_shape))), list(range(len(new_shape)))
    if prod(old_shape) == 0 or prod(old_shape) != prod(new_shape):
        raise UnknownShape("it has no elements")
    while old or new:
        old_run, new_run = old[:1], new[:1]
        old, new = old[1:], new[1:]
        while (a := prod(old_shape[i] for i in old_run)) != (
            b := prod(new_shape[i] for i in new_run)
        ) or (not old_run or not new_run):
            if (a < b or not old_run) and old:
                old_run.append(old.pop(0))
            elif new:
                new_run.append(new.pop(0))
            else:
                break
        blocks.append((old_run, new_run))
    return blocks


def constant_of(value: ir.Value | None) -> NDArray[np.generic] | None:
    """Return the elements of a constant; None if the value is computed or missing."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()
