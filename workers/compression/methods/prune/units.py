"""Units: the indices of dimensions that can only be removed together.

Every index of a dimension has *units*: it is removed as soon as one of its units is. Two dimensions
that must shrink alike get the same units (``unify``). A dimension of ``heads × width`` that is
reshaped into two gets one unit for each head and one for each position in a head: index ``(h, j)``
is removed with head ``h`` or with position ``j``. Indices that must never be removed are fixed,
with the reason.

The structure only ever becomes coarser, so constraints may come in any order.
"""

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

Label = tuple[Ids, ...]
"""Units of a dimension's indices: arrays of the dimension's size, -1 for none. Empty: never cut."""

FIXED: Label = ()

_NONE = -1


class Units:
    """A union-find whose elements may also be split into several."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._parts: dict[int, tuple[int, ...]] = {}
        self._reasons: dict[int, str] = {}

    def fresh(self, size: int) -> Label:
        """Return a label with a new unit for each of ``size`` indices; no units for one index."""
        if size <= 1:
            return FIXED
        start = len(self._parent)
        self._parent.extend(range(start, start + size))
        return (np.arange(start, start + size, dtype=np.int64),)

    def reason(self, unit: int) -> str | None:
        """Return why a unit is fixed; None if it is not."""
        return self._reasons.get(self._root(unit))

    def reasons(self, label: Label) -> set[str]:
        """Return the reasons why indices of a label are fixed."""
        reasons = {
            self.reason(int(unit)) for layer in label for unit in np.unique(layer[layer >= 0])
        }
        return {reason for reason in reasons if reason is not None}

    def fix(self, label: Label, reason: str) -> None:
        """Fix the indices of a label: they are never removed."""
        for layer in label:
            for unit in np.unique(layer[layer >= 0]):
                self._fix(int(unit), reason)

    def unify(self, one: Label, other: Label, reason: str) -> None:
        """Make two dimensions of one size shrink alike.

        Args:
            one: the label of one dimension.
            other: a label of the same size, or ``FIXED``, which fixes ``one``.
            reason: the reason for fixing an index that has a unit on one side only.
        """
        if not one or not other:
            self.fix(one or other, reason)
            return
        rows = np.unique(np.stack([*one, *other], axis=1), axis=0)
        for row in rows.tolist():
            self._equal(row[: len(one)], row[len(one) :], reason)

    def resolve(self, label: Label) -> Label:
        """Return a label in terms of units that are neither split nor fixed."""
        if not label or not label[0].size:
            return FIXED
        stacked = np.stack(label, axis=1)
        unique, inverse = np.unique(stacked, axis=0, return_inverse=True)
        leaves = [self._leaves(row) for row in unique.tolist()]
        depth = max(map(len, leaves))
        padded = np.array([[*row, *[_NONE] * (depth - len(row))] for row in leaves], np.int64)
        return tuple(padded.reshape(len(leaves), depth)[inverse.reshape(-1)].T)

    def split(self, label: Label, sizes: Sequence[int]) -> list[Label]:
        """Return the labels of the dimensions that a dimension is split into, row by row."""
        labels: list[list[Ids]] = [[] for _ in sizes]
        for layer in self.resolve(label):
            for axis, part in self._split_layer(layer.reshape(tuple(sizes))):
                labels[axis].append(part)
        return [tuple(parts) for parts in labels]

    def _split_layer(self, layer: Ids) -> list[tuple[int, Ids]]:
        """Return the units of a layer's axes, each with the number of its axis."""
        varying = [
            axis for axis in range(layer.ndim) if (layer != layer.take([0], axis=axis)).any()
        ]
        core = layer[tuple(slice(None) if a in varying else 0 for a in range(layer.ndim))]
        if len(varying) == 1:
            return [(varying[0], core)]
        if not varying:
            self.fix((layer.reshape(-1),), "all its channels are coupled")
            return []
        if (core >= 0).all() and np.unique(core).size == core.size:
            axes = [self.fresh(size)[0] for size in core.shape]
            for index in np.ndindex(core.shape):
                self._parts[int(core[index])] = tuple(int(axes[a][i]) for a, i in enumerate(index))
            return list(zip(varying, axes, strict=True))
        return [self._carry(core, varying)]

    def _carry(self, core: Ids, varying: list[int]) -> tuple[int, Ids]:
        """Assign the units to the longest axis: the units of each slice are unified."""
        axis = int(np.argmax(core.shape))
        slices = np.moveaxis(core, axis, 0).reshape(core.shape[axis], -1)
        for row in slices.tolist():
            for unit in row[1:]:
                self._equal([row[0]], [unit], "parts of it cannot be told apart once reshaped")
        return varying[axis], slices[:, 0].copy()

    def _root(self, unit: int) -> int:
        root = unit
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[unit] != root:
            self._parent[unit], unit = root, self._parent[unit]
        return root

    def _leaves(self, units: Sequence[int]) -> list[int]:
        """Return the unsplit units that some units consist of, without fixed ones."""
        leaves: dict[int, None] = {}
        for unit in units:
            if unit == _NONE:
                continue
            root = self._root(unit)
            if root in self._parts:
                leaves |= dict.fromkeys(self._leaves(self._parts[root]))
            elif root not in self._reasons:
                leaves[root] = None
        return list(leaves)

    def _fix(self, unit: int, reason: str) -> None:
        root = self._root(unit)
        self._reasons.setdefault(root, reason)
        for part in self._parts.get(root, ()):
            self._fix(part, reason)

    def _equal(self, one: Sequence[int], other: Sequence[int], reason: str) -> None:
        """Couple two indices, given by their units: each is removed exactly if the other is."""
        mine, theirs = self._members(one), self._members(other)
        if mine == theirs:
            return
        reason = self._known_reason([*one, *other]) or reason
        for single, several in ((mine, theirs), (theirs, mine)):
            if len(single) == 1 and len(several) > 1:
                self._define(single[0], several, reason)
                return
        for a, b in zip_longest(mine, theirs):
            if a is None or b is None:
                self._fix(b if a is None else a, reason)
            else:
                self._join(a, b, reason)

    def _members(self, units: Sequence[int]) -> list[int]:
        """Return the roots of the units among these that are not fixed."""
        roots = dict.fromkeys(self._root(unit) for unit in units if unit != _NONE)
        return [root for root in roots if root in self._parts or root not in self._reasons]

    def _known_reason(self, units: Sequence[int]) -> str | None:
        return next((r for u in units if u != _NONE and (r := self.reason(u)) is not None), None)

    def _define(self, unit: int, parts: list[int], reason: str) -> None:
        """Split a unit into the given parts."""
        leaves = self._leaves(parts)
        if unit in leaves:
            for part in leaves:
                if part != unit:
                    self._fix(part, reason)
        elif unit in self._parts:
            self._equal(self._parts[unit], parts, reason)
        else:
            self._parts[unit] = tuple(parts)

    def _join(self, one: int, other: int, reason: str) -> None:
        one, other = self._root(one), self._root(other)
        if one == other:
            return
        for unit, part in ((one, other), (other, one)):
            if unit in self._parts and part in (leaves := self._leaves([unit])):
                for leaf in leaves:
                    if leaf != part:
                        self._fix(leaf, reason)
                self._parts.pop(unit, None)
        mine, theirs = self._parts.pop(one, None), self._parts.pop(other, None)
        self._parent[other] = one
        fixed = self._reasons.pop(other, None) or self._reasons.get(one)
        if mine or theirs:
            self._parts[one] = mine or theirs or ()
        if fixed is not None:
            self._fix(one, fixed)
        if mine and theirs:
            self._equal(mine, theirs, reason)


def merge(labels: Sequence[Label], sizes: Sequence[int]) -> Label:
    """Return the label of the dimension that several adjacent dimensions are flattened into."""
    shape = tuple(sizes)
    layers = []
    for axis, label in enumerate(labels):
        spread = [1] * len(shape)
        spread[axis] = shape[axis]
        layers += [np.broadcast_to(layer.reshape(spread), shape).reshape(-1) for layer in label]
    return tuple(layers)


def join(labels: Sequence[Label], sizes: Sequence[int]) -> Label:
    """Return the label of the concatenation of several dimensions."""
    depth = max(len(label) for label in labels)
    rows = []
    for label, size in zip(labels, sizes, strict=True):
        none = np.full(size, _NONE, np.int64)
        rows.append([*label, *[none] * (depth - len(label))])
    return tuple(np.concatenate(layers) for layers in zip(*rows, strict=True))


def pick(label: Label, indices: Ids | slice) -> Label:
    """Return the label of some of a dimension's indices."""
    return tuple(layer[indices] for layer in label)
