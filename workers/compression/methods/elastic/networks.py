"""The sub-networks of a graph: how wide each group of channels is, how deep each stage."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from math import ceil
from typing import Literal

import numpy as np
import onnx_ir as ir

from app.domain.steps.base import matches
from workers.compression.graph import residual
from workers.compression.graph.residual import Block
from workers.compression.methods.prune.allocate import (
    MULTIPLE,
    OrderedGroup,
    ordered_groups,
    removal,
)
from workers.compression.methods.prune.channels import unsound_groups
from workers.compression.methods.prune.costs import Cost, cost_of
from workers.compression.methods.prune.cut import cut
from workers.compression.methods.prune.groups import Analysis, Removed, analyse
from workers.compression.methods.prune.survey import Survey, survey_graph
from workers.compression.samples.context import Context

NARROWEST = 0.25
"""The least share of its channels that a layer keeps."""
SHALLOWEST = 0.5
"""The least share of its residual blocks that a stage keeps, rounded down."""


@dataclass(frozen=True)
class Network:
    """One sub-network: the units and the residual blocks that it does without."""

    removed: Removed
    dropped: frozenset[str]


@dataclass(frozen=True)
class Networks:
    """The sub-networks of a graph. Each is a *choice* of a share, 0 to 1, for each dial.

    The dials are the groups of coupled channels, and then the stages: runs of residual blocks that
    have one shape. The first channels of a group stay, and the first blocks of a stage.
    """

    model: ir.Model
    survey: Survey
    analysis: Analysis
    groups: list[OrderedGroup]
    stages: list[list[str]]
    """The names of the blocks of each stage."""

    @property
    def dials(self) -> int:
        """The number of shares to choose."""
        return len(self.groups) + len(self.stages)

    @property
    def blocks(self) -> list[Block]:
        """The residual blocks that may be left out."""
        return residual.blocks(self.model, self.survey.shapes)

    def network(self, choices: Sequence[float]) -> Network:
        """Return the network of some shares; dials without one are at their greatest."""
        filled = [*choices, *[1.0] * (self.dials - len(choices))]
        widths, depths = filled[: len(self.groups)], filled[len(self.groups) :]
        kept = [
            group.keep(share * len(group.order))
            for group, share in zip(self.groups, widths, strict=True)
        ]
        dropped = [
            name
            for stage, share in zip(self.stages, depths, strict=True)
            for name in stage[max(int(SHALLOWEST * len(stage)), round(share * len(stage))) :]
        ]
        return Network(removal(self.analysis, self.groups, kept), frozenset(dropped))

    @property
    def largest(self) -> Network:
        """The graph as it is."""
        return self.network([])

    @property
    def smallest(self) -> Network:
        """The network in which all is at its least."""
        return self.network([0.0] * self.dials)

    def any(self, random: np.random.Generator) -> Network:
        """Return a network at random."""
        return self.network(random.random(self.dials).tolist())

    def take(self, graph: ir.Model, network: Network) -> ir.Model:
        """Cut a network out of a copy of the graph, in place, and return it."""
        cut(graph, self.analysis, network.removed)
        residual.drop(graph, self.survey.shapes, network.dropped)
        return graph

    def cost(self, of: Literal["macs", "parameters", "size"]) -> Callable[[Network], float]:
        """Return a function that counts a network's MACs, weights or bytes."""

        @cache
        def without(dropped: frozenset[str]) -> Cost:
            graph = self.model.clone()
            residual.drop(graph, self.survey.shapes, dropped)
            return cost_of(of, graph, self.analysis, self.survey.sample)

        return lambda network: without(network.dropped)(network.removed)


def networks_of(
    model: ir.Model, context: Context, ignored: Collection[str] = (), multiple: int = MULTIPLE
) -> Networks:
    """Return the sub-networks of a graph whose channels are in order.

    A group whose cut could not be proved on samples is no dial.

    Args:
        model: the graph, whose nodes have names; not changed.
        context: data, seed, threads.
        ignored: names and patterns of nodes that keep their channels.
        multiple: layers keep a multiple of this many channels; see ``ordered_groups``.
    """
    survey = survey_graph(model, context)
    analysis = analyse(model, survey.shapes, lambda name: matches(name, ignored))
    stages = _stages(residual.blocks(model, survey.shapes), survey.shapes)
    while True:
        found = Networks(model, survey, analysis, _groups(analysis, multiple), stages)
        unproved = unsound_groups(model, analysis, found.smallest.removed, survey)
        if not unproved:
            return found
        analysis = analysis.without([group for group, _ in unproved])


def _groups(analysis: Analysis, multiple: int) -> list[OrderedGroup]:
    """Return the groups of channels with more than one width, the last channels to go first."""
    scores = np.zeros(analysis.units, np.float64)
    for group in analysis.groups:
        scores[group.units] = -np.arange(len(group.units))
    narrow = (_wide_enough(group) for group in ordered_groups(analysis, scores, multiple))
    return [group for group in narrow if len(group.widths()) > 1]


def _wide_enough(group: OrderedGroup) -> OrderedGroup:
    count, step = len(group.order), group.step
    return replace(group, least=min(count, ceil(NARROWEST * count / step) * step))


def _stages(blocks: Sequence[Block], shapes: Mapping[str, tuple[int, ...]]) -> list[list[str]]:
    """Return the names of the blocks, those that follow one another in one shape together."""
    runs = groupby(blocks, key=lambda block: shapes.get(str(block.shortcut.name)))
    return [[block.name for block in run] for _, run in runs]
