"""Widths of layers that are learned in episodes, for a share of the cost that is to go (AMC).

Each episode chooses a width for one group of coupled channels after the other, never so wide that
the target could no longer be met, and is judged by the outputs of the cut graph on samples, without
training (He 2018). With ``of: latency`` the cost is the measured time of the layers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import onnx_ir as ir

from app.domain.steps import Prune
from workers.compression.graph import runtime
from workers.compression.learning.episodes import learned, limits_of, reference_of
from workers.compression.measure.reference import Reference
from workers.compression.methods.prune.allocate import (
    MULTIPLE,
    OrderedGroup,
    allocate,
    allocate_near,
    ordered_groups,
    removal,
)
from workers.compression.methods.prune.costs import Cost
from workers.compression.methods.prune.cut import cut
from workers.compression.methods.prune.groups import Analysis, Removed
from workers.compression.methods.prune.importance import Scores
from workers.compression.progress import Advance, span
from workers.compression.samples.context import Context


def allocate_as(
    parameters: Prune,
    model: ir.Model,
    analysis: Analysis,
    scores: Scores,
    context: Context,
    advance: Callable[[float], None],
) -> Callable[[Cost, float], Removed]:
    """Return what chooses units, from the cost of a graph without some and the share to save.

    It keeps to the scope and the multiple of channels that the parameters name. Where they name no
    multiple, few channels are cut in smaller ones; times are not, which come in steps themselves.
    It may be called again and again; each call advances by half of what is left.
    """
    scope, multiple = parameters.scope, parameters.multiple or MULTIPLE
    if scope == "learned":
        spans = halves(advance)
        return lambda cost, ratio: allocate_learned(
            model, analysis, scores, cost, ratio, multiple, context, next(spans)
        )
    if parameters.multiple is None and parameters.of != "latency":
        return partial(allocate_near, analysis, scores, scope=scope)
    return partial(allocate, analysis, scores, scope=scope, multiple=multiple)


def halves(advance: Advance) -> Iterator[Advance]:
    """Yield what advances from 0 to a half, then from there to three quarters, and so on."""
    start = 0.0
    while True:
        stop = (1 + start) / 2
        yield span(advance, start, stop)
        start = stop


def allocate_learned(
    model: ir.Model,
    analysis: Analysis,
    scores: Scores,
    cost: Cost,
    ratio: float,
    multiple: int,
    context: Context,
    advance: Callable[[float], None],
) -> Removed:
    """Choose the units to remove, so that ``ratio`` of the cost is saved and the outputs stay near.

    The first episodes are what ``allocate`` chooses, so that the outputs are never further away.

    Args:
        model: the graph; not changed.
        analysis: the coupled units of the graph.
        scores: the importance of each unit: which of a layer go first.
        cost: the cost of the graph as a function of the removed units.
        ratio: the share of the cost to save.
        multiple: layers keep a multiple of this many channels; see ``ordered_groups``.
        context: samples to judge on, the seed, the clock.
        advance: called with the fraction of the episodes that were made.
    """
    groups = ordered_groups(analysis, scores, multiple)
    known = [_shares(groups, allocate(analysis, scores, cost, ratio, "global", multiple))]
    known.append(_shares(groups, allocate(analysis, scores, cost, ratio, "layer", multiple)))
    target = cost(analysis.none_removed()) * (1 - ratio)
    task = _Widths(model, analysis, groups, cost, target, reference_of(model, context))
    choices, _ = learned(task, known, limits_of(context), context.seed, advance)
    return task.removed(choices)


def _shares(groups: Sequence[OrderedGroup], removed: Removed) -> list[float]:
    """Return the share of its units that each group keeps."""
    return [1 - float(removed[group.order].mean()) for group in groups]


@dataclass(frozen=True)
class _Widths:
    """The choice of a share of units to keep, for each group in the graph's order."""

    model: ir.Model
    analysis: Analysis
    groups: Sequence[OrderedGroup]
    cost: Cost
    target: float
    reference: Reference

    @property
    def layers(self) -> int:
        """The number of groups."""
        return len(self.groups)

    @cached_property
    def _whole(self) -> float:
        """The cost of the graph as it is; 1 where it has none."""
        return self.cost(self.analysis.none_removed()) or 1.0

    def state(self, layer: int, choices: Sequence[float]) -> list[float]:
        """Return the place, the units, what is saved, what can still be, and the last choice."""
        rest = self.groups[layer:]
        ahead = sum(len(group.order) - group.least for group in rest)
        units = sum(len(group.order) for group in self.groups)
        return [
            layer / self.layers,
            len(self.groups[layer].order) / units,
            1 - self.cost(self.removed(choices)) / self._whole,
            ahead / units,
            choices[-1] if choices else 1.0,
        ]

    def allowed(self, layer: int, wanted: float, choices: Sequence[float]) -> float:
        """Return the widest share up to ``wanted`` that leaves the target within reach."""
        group, later = self.groups[layer], self.groups[layer + 1 :]
        count = len(group.order)
        least = [other.least / len(other.order) for other in later]
        widths = [width for width in group.widths() if width <= group.keep(wanted * count)]
        low, high = 0, len(widths) - 1
        while low < high:
            middle = (low + high + 1) // 2
            attempt = [*choices, widths[middle] / count, *least]
            if self.cost(self.removed(attempt)) <= self.target:
                low = middle
            else:
                high = middle - 1
        return widths[low] / count

    def removed(self, choices: Sequence[float]) -> Removed:
        """Return the units that go; groups without a choice stay whole."""
        widths = [
            group.keep(choice * len(group.order))
            for group, choice in zip(self.groups, choices, strict=False)
        ]
        whole = [len(group.order) for group in self.groups[len(widths) :]]
        return removal(self.analysis, self.groups, [*widths, *whole])

    def reward(self, choices: Sequence[float]) -> float:
        """Return the share of the outputs' variance that the cut graph explains."""
        with runtime.in_file(cut(self.model.clone(), self.analysis, self.removed(choices))) as path:
            return self.reference.explained(path)
