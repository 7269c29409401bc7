"""How many units each group keeps so that the graph costs what was asked for."""

from dataclasses import dataclass
from math import ceil, gcd
from typing import Literal

import numpy as np

from workers.compression.methods.prune.costs import Cost
from workers.compression.methods.prune.groups import Analysis, Group, Removed
from workers.compression.methods.prune.importance import Scores

STEP = 8
"""Widths that the runtime's kernels like are multiples of this (vectors of 8 or 16 floats)."""

_LEAST = 0.1
"""The share of its units that a group keeps at least."""


@dataclass(frozen=True)
class OrderedGroup:
    """A group, its units from the least to the most important, and the widths it may have."""

    group: Group
    order: np.ndarray
    step: int
    """Units that are kept or removed at once."""
    least: int
    """Units that stay in any case."""

    def widths(self) -> list[int]:
        """Return the numbers of units that it may keep, ascending."""
        count = len(self.order)
        return sorted({*range(self.least, count, self.step), count})

    def keep(self, wish: float) -> int:
        """Return the allowed number of units nearest to a wish."""
        return min(self.widths(), key=lambda width: (abs(width - wish), width))


def candidates(analysis: Analysis, scores: Scores) -> list[OrderedGroup]:
    """Return every group with its units in order of importance."""
    return [_candidate(group, analysis, scores) for group in analysis.groups]


def _candidate(group: Group, analysis: Analysis, scores: Scores) -> OrderedGroup:
    count = len(group.units)
    step = _step(group, analysis)
    least = max(1, ceil(ceil(_LEAST * count) / step) * step)
    order = group.units[np.argsort(scores[group.units], kind="stable")]
    return OrderedGroup(group, order, step, min(least, count))


def _step(group: Group, analysis: Analysis) -> int:
    """Return how many units make a multiple of ``STEP`` channels; 1 in layers that are narrow."""
    count = len(group.units)
    place = group.places[0]
    channels = max(1, analysis.shapes[place.value][place.axis] // count)
    step = STEP // gcd(STEP, channels)
    return step if count >= 2 * step else 1


def allocate(
    analysis: Analysis,
    scores: Scores,
    cost: Cost,
    ratio: float,
    scope: Literal["global", "layer"],
) -> Removed:
    """Choose the units to remove so that at least ``ratio`` of the cost goes, and little more.

    Args:
        analysis: what hangs together.
        scores: how much each unit contributes; comparable between groups for scope ``global``.
        cost: what a graph without units costs.
        ratio: the share to remove.
        scope: ``global`` lets groups compete, ``layer`` takes the same share of each.

    Returns:
        The removed units; as many as may go where that does not suffice.
    """
    groups = candidates(analysis, scores)
    target = cost(analysis.none_removed()) * (1 - ratio)
    levels = _levels(groups, scores, scope)

    def widths(level: float) -> list[int]:
        if scope == "layer":
            return [each.keep(len(each.order) * (1 - level)) for each in groups]
        return [each.keep(int((scores[each.order] >= level).sum())) for each in groups]

    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        if cost(_removed(analysis, groups, widths(levels[middle]))) <= target:
            high = middle
        else:
            low = middle + 1
    chosen = _give_back(analysis, groups, widths(levels[low]), scores, cost, target)
    return _removed(analysis, groups, chosen)


def _levels(groups: list[OrderedGroup], scores: Scores, scope: str) -> np.ndarray:
    if scope == "layer" or not groups:
        return np.linspace(0, 1, 129)
    own = np.concatenate([scores[each.order] for each in groups])
    return np.append(np.unique(own), np.inf)


def _give_back(
    analysis: Analysis,
    groups: list[OrderedGroup],
    widths: list[int],
    scores: Scores,
    cost: Cost,
    target: float,
) -> list[int]:
    """Return units where the target is met without their removal, the most important first."""

    def best_removed(index: int) -> float:
        gone = len(groups[index].order) - widths[index]
        return float(scores[groups[index].order[gone - 1]]) if gone else -np.inf

    for index in sorted(range(len(groups)), key=best_removed, reverse=True):
        wider = [width for width in groups[index].widths() if width > widths[index]]
        if wider:
            attempt = [*widths]
            attempt[index] = wider[0]
            if cost(_removed(analysis, groups, attempt)) <= target:
                widths = attempt
    return widths


def _removed(analysis: Analysis, groups: list[OrderedGroup], widths: list[int]) -> Removed:
    removed = analysis.none_removed()
    for each, width in zip(groups, widths, strict=True):
        removed[each.order[: len(each.order) - width]] = True
    return removed
