"""The training of a supernet: the sandwich rule, with the original as the teacher of all.

Each step trains the largest network, the smallest and two at random (Yu & Huang 2019, as Cai et al.
2020 use it). All of them share their weights.
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from app.domain.steps import Prune, Supernet
from app.domain.steps.base import matches
from workers.compression.executor import write_back
from workers.compression.learning.feed import Batch, Outputs
from workers.compression.learning.learner import Learner, trainable_parameters
from workers.compression.learning.loop import train
from workers.compression.learning.plan import Minutes
from workers.compression.learning.recovery import loss_of
from workers.compression.learning.task import Task
from workers.compression.methods.elastic.order import in_order
from workers.compression.methods.elastic.shared import Shared, share
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune.criteria import ChannelSources, score_channels
from workers.compression.methods.prune.groups import analyse
from workers.compression.methods.prune.survey import survey_graph
from workers.compression.progress import span
from workers.compression.samples.context import Context

_AT_RANDOM = 2
"""The networks of a step besides the largest and the smallest."""
_SCORING = 0.05
"""The share of the progress before the training."""


def supernet(
    model: ir.Model, parameters: Supernet, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Put the channels of a graph in order, and train it so that networks can be taken out of it.

    Args:
        model: the graph; not changed.
        parameters: what keeps its channels, and the training.
        context: the samples, the teacher (``original``), seed, device, workspace.
        advance: called with the fraction done.

    Returns:
        The graph, as large as before.

    Raises:
        StepFailed: there are no samples, nothing can be left out, or the training diverges.
    """
    ordered = _ordered(model, parameters, context, span(advance, 0, _SCORING))
    shared = share(ordered, context, parameters.ignore)
    _learn(ordered, shared, parameters, context, span(advance, _SCORING, 1))
    networks = shared.masked.networks
    note = (
        f"Networks can be taken out of it along {len(networks.groups)} groups of channels and"
        f" {sum(map(len, networks.stages))} residual blocks in {len(networks.stages)} stages."
    )
    return Outcome(ordered, skipped=networks.analysis.skipped, notes=[note])


def _ordered(
    model: ir.Model, parameters: Supernet, context: Context, advance: Callable[[float], None]
) -> ir.Model:
    """Return a copy whose channels are in the order of their importance."""
    survey = survey_graph(model, context)
    analysis = analyse(model, survey.shapes, lambda name: matches(name, parameters.ignore))
    if not analysis.groups:
        return model.clone()
    scores = score_channels(ChannelSources(model, analysis, Prune(), context, advance))
    return in_order(model, analysis, scores, survey.trials[0])


def _learn(
    model: ir.Model,
    shared: Shared,
    parameters: Supernet,
    context: Context,
    advance: Callable[[float], None],
) -> None:
    """Train all networks together, and write the trained weights into ``model``."""
    settings, executor, feed = parameters.recover, shared.masked.executor, shared.feed
    largest = shared.masked.runs(shared.masked.networks.largest)
    weights = trainable_parameters(model, executor, {})
    minutes = Minutes(settings.minutes, context.clock)
    learner = Learner(
        executor, feed, weights, largest, normalised=shared.batches,
        write_back=lambda: write_back(executor, shared.graph),
    )  # fmt: skip
    one = loss_of(model, learner, settings, context, minutes)
    task = Task(
        parameters=weights,
        forward=largest,
        loss=_of_several(shared, one, context.seed),
        normalised=shared.batches,
    )
    before = {name: value.clone() for name, value in _values(weights).items()}
    train(task, feed, settings, context, advance, minutes, "supernet")
    if any(not torch.equal(before[name], value) for name, value in _values(weights).items()):
        learner.write_back()
        shared.fold(shared.graph, model, context.seed)


def _values(weights: Mapping[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in weights.items()}


def _of_several(
    shared: Shared, one: Callable[[Outputs, Batch], Tensor], seed: int
) -> Callable[[Outputs, Batch], Tensor]:
    """Return the loss of a step: the mean over the largest network, the smallest and some others.

    The others are drawn at random. The draw follows from the samples of the batch, so that a
    training that goes on from a checkpoint draws the same. In validation none are drawn.

    Args:
        shared: runs the networks.
        one: the loss of one network, from its outputs.
        seed: the seed of the draws.
    """
    masked, networks = shared.masked, shared.masked.networks
    smallest = masked.runs(networks.smallest)

    def loss(outputs: Outputs, batch: Batch) -> Tensor:
        others = [smallest]
        if torch.is_grad_enabled():
            random = np.random.default_rng([seed, *batch.rows])
            others += [masked.runs(networks.any(random)) for _ in range(_AT_RANDOM)]
        answers = [outputs, *(shared.feed.outputs(run, batch) for run in others)]
        return torch.stack([one(each, batch) for each in answers]).mean()

    return loss
