"""Buy the most for the least: groups shrink step by step where a step saves most for its loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from workers.compression.methods.prune.allocate import Candidate
from workers.compression.methods.prune.groups import Analysis, Removed
from workers.compression.methods.prune.importance import Scores

NodeCost = Callable[[ir.Node, Removed], float]
"""What one node costs once units are removed."""

_WIDTHS = 8
"""Widths of a group that are looked at, at most."""


@dataclass(frozen=True)
class Step:
    """A group made narrower."""

    group: int
    width: int
    price: float
    """Loss for each unit of cost that it saves."""
    saved: float


class Allocation:
    """Widths of all groups, from full downwards.

    Args:
        analysis: what hangs together.
        nodes: that cost something.
        groups: with their units in order of importance.
        scores: what each unit's absence costs.
        cost: of a node.
    """

    def __init__(
        self,
        analysis: Analysis,
        nodes: Sequence[ir.Node],
        groups: Sequence[Candidate],
        scores: Scores,
        cost: NodeCost,
    ) -> None:
        self.groups, self.cost = groups, cost
        self.removed = analysis.none_removed()
        self.widths = [len(each.order) for each in groups]
        self.losses = [np.append(0, np.cumsum(scores[each.order])) for each in groups]
        self.touched = _touched(analysis, nodes, groups)
        self.total = sum(cost(node, self.removed) for node in nodes)
        self._best: dict[int, Step | None] = {}

    def shrink_to(self, target: float) -> None:
        """Narrow groups until the nodes cost ``target`` or nothing is left to narrow."""
        while self.total > target:
            for index in range(len(self.groups)):
                if index not in self._best:
                    self._best[index] = self._cheapest(index)
            steps = [step for step in self._best.values() if step is not None]
            if not steps:
                return
            self._take(min(steps, key=lambda step: (step.price, step.group)))

    def _take(self, step: Step) -> None:
        self.removed = self._with(step.group, step.width)
        self.widths[step.group] = step.width
        self.total -= step.saved
        changed = self.touched[step.group]
        for index, nodes in enumerate(self.touched):
            if not changed.isdisjoint(nodes):
                self._best.pop(index, None)

    def _cheapest(self, index: int) -> Step | None:
        """Return the step of a group with the least loss for what it saves."""
        group, width, losses = self.groups[index], self.widths[index], self.losses[index]
        count = len(group.order)
        lower = [each for each in group.widths() if each < width]
        before = sum(self.cost(node, self.removed) for node in self.touched[index])
        steps = []
        for each in lower[:: -max(1, len(lower) // _WIDTHS)]:
            removed = self._with(index, each)
            saved = before - sum(self.cost(node, removed) for node in self.touched[index])
            loss = float(losses[count - each] - losses[count - width])
            if saved > 0:
                steps.append(Step(index, each, loss / saved, saved))
        return min(steps, key=lambda step: step.price, default=None)

    def _with(self, index: int, width: int) -> Removed:
        order = self.groups[index].order
        removed = self.removed.copy()
        removed[order[: len(order) - width]] = True
        return removed


def _touched(
    analysis: Analysis, nodes: Sequence[ir.Node], groups: Sequence[Candidate]
) -> list[set[ir.Node]]:
    """Return the nodes whose operands each group makes smaller."""
    of_unit = np.full(analysis.units + 1, -1)
    for index, each in enumerate(groups):
        of_unit[each.group.units] = index
    found: list[set[ir.Node]] = [set() for _ in groups]
    for node in nodes:
        for value in (*node.inputs, *node.outputs):
            rows = analysis.rows.get(str(value.name)) if value is not None else None
            present = [of_unit[units].reshape(-1) for units in rows or () if units is not None]
            for index in np.unique(np.concatenate([*present, np.array([-1])])).tolist():
                if index >= 0:
                    found[index].add(node)
    return found
