"""Takes a network out of a supernet: the one that is nearest to the original for what it costs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir
import torch

from app.domain.steps import Subnet, Supernet
from app.domain.steps.recover import Recover
from workers.compression.learning.episodes import learned, limits_of
from workers.compression.learning.feed import Batch
from workers.compression.learning.learner import Learner
from workers.compression.learning.plan import Minutes
from workers.compression.learning.recovery import loss_of, recover
from workers.compression.measure.affordable import affordable
from workers.compression.methods.elastic.networks import Network, Networks
from workers.compression.methods.elastic.shared import Shared, share
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune.allocate import MULTIPLE
from workers.compression.methods.prune.channels import changes
from workers.compression.methods.prune.groups import kept_indices
from workers.compression.methods.saving import shortfall
from workers.compression.progress import span
from workers.compression.samples.context import Context

_WORK = 1e9
"""Multiply-accumulates that a graph may take in one episode."""
_FEWEST, _MOST = 32, 256
"""The least and the greatest number of samples of an episode; statistics are measured on them."""


def subnet(
    model: ir.Model, parameters: Subnet, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Take the network that answers best on samples for the share that is to be saved.

    What the supernet was to leave alone keeps its channels: no narrower one was trained.

    Args:
        model: a supernet: the channels of its layers are in order; not changed.
        parameters: the share to save, and of what.
        context: samples, the original, seed, the clock, the supernet among the earlier steps.
        advance: called with the fraction done.

    Returns:
        The network. If nothing can be left out within the ratio: as much as can be.

    Raises:
        StepFailed: there are no samples, or nothing can be left out.
    """
    ignored = [
        name for step in context.earlier if isinstance(step, Supernet) for name in step.ignore
    ]
    shared = share(model, context, ignored, parameters.multiple or MULTIPLE)
    networks = shared.masked.networks
    judging = 1.0 if parameters.recover is None else 0.5
    network, saved = _best(model, shared, parameters, context, span(advance, 0, judging))
    smaller = networks.take(model.clone(), network)
    shared.fold(networks.take(shared.graph, network), smaller, context.seed)
    if parameters.recover is not None:
        smaller = recover(smaller, parameters.recover, context, span(advance, judging, 1))
    missed = shortfall(parameters.ratio, parameters.of, saved)
    return Outcome(
        smaller,
        changes(model, smaller),
        [*networks.analysis.skipped, *missed],
        kept=kept_indices(model, networks.analysis, network.removed),
    )


def _best(
    model: ir.Model,
    shared: Shared,
    parameters: Subnet,
    context: Context,
    advance: Callable[[float], None],
) -> tuple[Network, float]:
    """Return the best network of all episodes, and the share that it saves."""
    networks, cost = shared.masked.networks, shared.masked.networks.cost(parameters.of)
    whole = cost(networks.largest)
    target = whole * (1 - parameters.ratio)
    task = _Task(networks, cost, whole, target, _judge(model, shared, context))
    shares = [index / 32 for index in range(32, -1, -1)]
    even = next(
        (s for s in shares if cost(networks.network([s] * networks.dials)) <= task.target), 0.0
    )
    known = [[even] * networks.dials, [even] * len(networks.groups) + [1.0] * len(networks.stages)]
    choices, _ = learned(task, known, limits_of(context), context.seed, advance)
    network = networks.network(choices)
    return network, 1 - cost(network) / max(whole, 1)


def _judge(model: ir.Model, shared: Shared, context: Context) -> Callable[[Network], float]:
    """Return what judges a network by the loss that the supernet was trained with."""
    assert context.train is not None, "a supernet has samples"
    count = affordable(model, context.train, _WORK, _FEWEST, _MOST)
    feed, largest = shared.feed, shared.masked.runs(shared.masked.networks.largest)
    learner = Learner(
        shared.masked.executor,
        feed,
        {},
        largest,
        normalised=shared.batches,
        write_back=lambda: None,
    )
    loss = loss_of(model, learner, Recover(), context, Minutes(1.0, context.clock))
    rows = context.train.draw(count, context.seed).indices
    batches = [feed.batch(part) for part in feed.parts(rows)]

    @torch.no_grad()
    def reward(network: Network) -> float:
        run = shared.masked.runs(network)

        def weighed(batch: Batch) -> float:
            outputs = feed.outputs(run, batch)
            return float(loss(outputs, batch)) * len(batch.rows)

        return -sum(map(weighed, batches)) / len(rows)

    return reward


@dataclass(frozen=True)
class _Task:
    """The choice of a width for each group of channels and of a depth for each stage."""

    networks: Networks
    cost: Callable[[Network], float]
    whole: float
    """The cost of the largest network."""
    target: float
    judge: Callable[[Network], float]

    @property
    def layers(self) -> int:
        """The number of choices."""
        return self.networks.dials

    def state(self, layer: int, choices: Sequence[float]) -> list[float]:
        """Return the place, whether it is a depth, what is saved so far, and the last choice."""
        return [
            layer / self.layers,
            float(layer >= len(self.networks.groups)),
            1 - self.cost(self.networks.network(choices)) / max(self.whole, 1),
            choices[-1] if choices else 1.0,
        ]

    def allowed(self, layer: int, wanted: float, choices: Sequence[float]) -> float:
        """Return the greatest share up to ``wanted`` that leaves the target within reach."""
        least = [0.0] * (self.layers - layer - 1)
        for choice in (wanted * (8 - eighths) / 8 for eighths in range(8)):
            if self.cost(self.networks.network([*choices, choice, *least])) <= self.target:
                return choice
        return 0.0

    def reward(self, choices: Sequence[float]) -> float:
        """Return how good the network is."""
        return self.judge(self.networks.network(choices))
