"""Chooses how many units each group keeps, so that the graph's cost meets the target."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, gcd
from typing import Literal

import numpy as np

from workers.compression.methods.prune.costs import Cost
from workers.compression.methods.prune.groups import Analysis, Group, Removed
from workers.compression.methods.prune.importance import Scores

MULTIPLE = 8
"""Kernels are fast for numbers of channels that are multiples of this (vectors of 8 or 16)."""

_TOO_MUCH = 0.1
"""The share of the cost by which no more is removed than was asked for, if multiples allow it."""

_LEAST = 0.1
"""The least share of its units that a group keeps."""


@dataclass(frozen=True)
class OrderedGroup:
    """A group, its units from the least to the most important, and its allowed widths."""

    group: Group
    order: np.ndarray
    step: int
    """The number of units that are kept or removed together."""
    least: int
    """The least number of units that the group keeps."""

    def widths(self) -> list[int]:
        """Return the numbers of units that the group may keep, ascending."""
        count = len(self.order)
        return sorted({*range(self.least, count, self.step), count})

    def keep(self, target: float) -> int:
        """Return the allowed number of units that is nearest to a target."""
        return min(self.widths(), key=lambda width: (abs(width - target), width))


def ordered_groups(
    analysis: Analysis, scores: Scores, multiple: int = MULTIPLE
) -> list[OrderedGroup]:
    """Return every group with its units in order of importance.

    Args:
        analysis: the coupled units of the graph.
        scores: the importance of each unit.
        multiple: a group that is cut keeps a multiple of so many channels. Where it has less than
            twice as many, it keeps a multiple of ``MULTIPLE``, or else any number.
    """
    return [_ordered(group, analysis, scores, multiple) for group in analysis.groups]


def _ordered(group: Group, analysis: Analysis, scores: Scores, multiple: int) -> OrderedGroup:
    count = len(group.units)
    step = _step(group, analysis, multiple)
    least = max(1, ceil(ceil(_LEAST * count) / step) * step)
    order = group.units[np.argsort(scores[group.units], kind="stable")]
    return OrderedGroup(group, order, step, min(least, count))


def _step(group: Group, analysis: Analysis, multiple: int) -> int:
    """Return how many units make a multiple of so many channels, or of fewer in a narrow layer."""
    count = len(group.units)
    place = group.places[0]
    channels = max(1, analysis.shapes[place.value][place.axis] // count)
    steps = [wanted // gcd(wanted, channels) for wanted in (multiple, MULTIPLE)]
    return next((step for step in steps if count >= 2 * step), 1)


def allocate_near(
    analysis: Analysis,
    scores: Scores,
    cost: Cost,
    ratio: float,
    scope: Literal["global", "layer"],
) -> Removed:
    """Choose as ``allocate`` does, in multiples of channels that are as large as the graph bears.

    In a graph of few channels multiples of eight may remove much more than was asked for.
    """
    multiple, total = MULTIPLE, cost(analysis.none_removed())
    while True:
        removed = allocate(analysis, scores, cost, ratio, scope, multiple)
        if multiple == 1 or total * (1 - ratio) - cost(removed) <= _TOO_MUCH * total:
            return removed
        multiple //= 2


def allocate(
    analysis: Analysis,
    scores: Scores,
    cost: Cost,
    ratio: float,
    scope: Literal["global", "layer"],
    multiple: int = MULTIPLE,
) -> Removed:
    """Choose the units to remove, so that at least ``ratio`` of the cost is saved, and little more.

    Args:
        analysis: the coupled units of the graph.
        scores: the importance of each unit; comparable between groups for scope ``global``.
        cost: the cost of the graph as a function of the removed units.
        ratio: the share of the cost to save.
        scope: ``global`` compares units of all groups; ``layer`` removes the same share of each.
        multiple: layers keep a multiple of this many channels; see ``ordered_groups``.

    Returns:
        The removed units. If the ratio cannot be met: as many units as may be removed.
    """
    groups = ordered_groups(analysis, scores, multiple)
    target = cost(analysis.none_removed()) * (1 - ratio)
    levels = _levels(groups, scores, scope)

    def widths(level: float) -> list[int]:
        if scope == "layer":
            return [group.keep(len(group.order) * (1 - level)) for group in groups]
        return [group.keep(int((scores[group.order] >= level).sum())) for group in groups]

    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        if cost(removal(analysis, groups, widths(levels[middle]))) <= target:
            high = middle
        else:
            low = middle + 1
    chosen = _give_back(analysis, groups, widths(levels[low]), scores, cost, target)
    return removal(analysis, groups, chosen)


def _levels(groups: list[OrderedGroup], scores: Scores, scope: str) -> np.ndarray:
    if scope == "layer" or not groups:
        return np.linspace(0, 1, 129)
    levels = np.concatenate([scores[group.order] for group in groups])
    return np.append(np.unique(levels), np.inf)


def _give_back(
    analysis: Analysis,
    groups: list[OrderedGroup],
    widths: list[int],
    scores: Scores,
    cost: Cost,
    target: float,
) -> list[int]:
    """Put units back, the most important first, where the target is met all the same."""

    def best_removed(index: int) -> float:
        removed_count = len(groups[index].order) - widths[index]
        return float(scores[groups[index].order[removed_count - 1]]) if removed_count else -np.inf

    for index in sorted(range(len(groups)), key=best_removed, reverse=True):
        larger = [width for width in groups[index].widths() if width > widths[index]]
        if larger:
            attempt = [*widths]
            attempt[index] = larger[0]
            if cost(removal(analysis, groups, attempt)) <= target:
                widths = attempt
    return widths


def removal(analysis: Analysis, groups: Sequence[OrderedGroup], widths: Sequence[int]) -> Removed:
    """Return the units that go where each group keeps as many as its width, the best ones."""
    removed = analysis.none_removed()
    for group, width in zip(groups, widths, strict=True):
        removed[group.order[: len(group.order) - width]] = True
    return removed
