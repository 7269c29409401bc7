"""The graph that is trained for a model: the model itself, or a copy with batch normalisation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import nn

from app.domain.problems import StepFailed
from app.domain.steps.recover import Recover
from workers.compression.executor import Executor, build, write_back
from workers.compression.learning.feed import Feed, Forward, feed_for
from workers.compression.learning.portions import batch_size, divide
from workers.compression.learning.renormalise import LEAST_RUN, Renormalised, candidates
from workers.compression.learning.trainable import measured
from workers.compression.samples.context import Context, Samples


@dataclass(frozen=True)
class Learner:
    """The network that is trained on behalf of a model.

    Attributes:
        executor: the graph in torch.
        feed: the training samples, in batches that the network takes.
        parameters: the trained parameters, by initializer.
        forward: runs the network, in training and in evaluation.
        normalised: whether batch normalisation is in training mode, so that a large rate is safe.
        write_back: writes the trained weights into the model.
    """

    executor: Executor
    feed: Feed
    parameters: dict[str, nn.Parameter]
    forward: Forward
    normalised: bool
    write_back: Callable[[], None]


def plain_learner(
    model: ir.Model, samples: Samples, settings: Recover, device: str, rates: Mapping[str, float]
) -> Learner:
    """Return a learner that trains the model itself.

    Args:
        model: in normal form.
        samples: the samples to train on.
        settings: the kinds of augmentation are read from them.
        device: as torch names it.
        rates: factors of the learning rate by initializer.
    """
    executor = build(model).to(device)
    feed = feed_for(executor, samples, device, settings.augment)
    parameters = trainable_parameters(model, executor, rates)
    return Learner(
        executor, feed, parameters, executor, normalised=False,
        write_back=lambda: write_back(executor, model),
    )  # fmt: skip


def normalised_learner(model: ir.Model, plain: Learner, settings: Recover, seed: int) -> Learner:
    """Return a learner that trains a copy of the model in which batch normalisation is unfolded.

    Args:
        model: in normal form, with at least one of ``renormalise.candidates``.
        plain: the learner that trains the model itself.
        settings: the kinds of augmentation are read from them.
        seed: seed of the draw of samples that statistics are measured on.
    """
    device = plain.feed.device
    unfolded = Renormalised(model, plain.feed, seed)
    executor = build(unfolded.model).to(device)
    feed = feed_for(executor, plain.feed.samples, device, settings.augment)
    parameters = trainable_parameters(unfolded.model, executor, {})
    statistics = {name: executor.weight(name) for name in unfolded.statistics}

    def write_learned() -> None:
        write_back(executor, unfolded.model)
        unfolded.fold(model)

    return Learner(
        executor, feed, {**parameters, **statistics}, unfolded.learning(executor, device),
        normalised=True, write_back=write_learned,
    )  # fmt: skip


def normalisation_helps(
    model: ir.Model, feed: Feed, settings: Recover, context: Context, *, classes: bool
) -> bool:
    """Return whether batch normalisation helps: for classes, in large enough batches."""
    training = divide(feed, context.seed).training
    run = min(feed.size, batch_size(feed, settings, len(training)))
    return classes and run >= LEAST_RUN and not is_quantized(model) and bool(candidates(model))


def is_quantized(model: ir.Model) -> bool:
    """Return whether a graph is quantized: gradients then pass straight through."""
    return any(node.op_type in {"QuantizeLinear", "DequantizeLinear"} for node in model.graph)


def trainable_parameters(
    model: ir.Model, executor: Executor, rates: Mapping[str, float]
) -> dict[str, nn.Parameter]:
    """Return the trainable parameters by initializer; gradients of the others are switched off.

    Raises:
        StepFailed: there is no float32 weight.
    """
    fixed = measured(model)
    weights = {}
    for name in executor.names:
        parameter = executor.weight(name)
        is_float = parameter.dtype in {torch.float32, torch.float64}
        has_rate = rates.get(name, 0.0 if name in fixed else 1.0) > 0
        parameter.requires_grad_(parameter.requires_grad and is_float and has_rate)
        if parameter.requires_grad:
            weights[name] = parameter
    if not weights:
        raise StepFailed(
            "The model has no float32 weight that can be trained: leave 'recover' out, or upload"
            " it in float32."
        )
    return weights
