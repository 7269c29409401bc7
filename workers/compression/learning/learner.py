"""The graph that is trained for a model: itself, or a copy that normalisation is lent to."""

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
    """What is trained in a model's place.

    Attributes:
        executor: the graph in torch.
        feed: the samples, in runs that it takes.
        parameters: what is trained, by initializer.
        forward: runs the graph in training and outside of it.
        normalised: whether normalisation looks at the batch, so that weights bear a large rate.
        give_back: writes what was learned into the model.
    """

    executor: Executor
    feed: Feed
    parameters: dict[str, nn.Parameter]
    forward: Forward
    normalised: bool
    give_back: Callable[[], None]


def as_it_is(
    model: ir.Model, samples: Samples, wish: Recover, device: str, rates: Mapping[str, float]
) -> Learner:
    """Return a learner that is the model itself.

    Args:
        model: in normal form.
        samples: to train on.
        wish: augmentation.
        device: as torch names it.
        rates: factors of the learning rate by initializer.
    """
    executor = build(model).to(device)
    feed = feed_for(executor, samples, device, wish.augment or ())
    parameters = trained(model, executor, rates)
    return Learner(
        executor, feed, parameters, executor, normalised=False,
        give_back=lambda: write_back(executor, model),
    )  # fmt: skip


def with_normalisation(model: ir.Model, plain: Learner, wish: Recover, seed: int) -> Learner:
    """Return a learner that is a copy of the model with the normalisations that were folded away.

    Args:
        model: in normal form, with at least one of ``renormalise.candidates``.
        plain: the model as it is.
        wish: augmentation.
        seed: of the samples that statistics are measured on.
    """
    device = plain.feed.device
    lent = Renormalised(model, plain.feed, seed)
    executor = build(lent.model).to(device)
    feed = feed_for(executor, plain.feed.samples, device, wish.augment or ())
    parameters = trained(lent.model, executor, {})
    statistics = {name: executor.weight(name) for name in lent.statistics}

    def give_back() -> None:
        write_back(executor, lent.model)
        lent.fold(model)

    return Learner(
        executor, feed, {**parameters, **statistics}, lent.learning(executor, device),
        normalised=True, give_back=give_back,
    )  # fmt: skip


def gains_by_normalisation(
    model: ir.Model, feed: Feed, wish: Recover, context: Context, *, classes: bool
) -> bool:
    """Return whether normalisation is lent: for classes, by batches that are large enough."""
    training = divide(feed, context.seed).training
    run = min(feed.size, batch_size(feed, wish, len(training)))
    return classes and run >= LEAST_RUN and not is_rounded(model) and bool(candidates(model))


def is_rounded(model: ir.Model) -> bool:
    """Return whether a graph is trained through its rounding."""
    return any(node.op_type in {"QuantizeLinear", "DequantizeLinear"} for node in model.graph)


def trained(
    model: ir.Model, executor: Executor, rates: Mapping[str, float]
) -> dict[str, nn.Parameter]:
    """Return what is trained, by initializer; the rest needs no gradient any more.

    Raises:
        StepFailed: there is no float32 weight.
    """
    fixed = measured(model)
    weights = {}
    for name in executor.names:
        parameter = executor.weight(name)
        single = parameter.dtype in {torch.float32, torch.float64}
        wanted = rates.get(name, 0.0 if name in fixed else 1.0) > 0
        parameter.requires_grad_(parameter.requires_grad and single and wanted)
        if parameter.requires_grad:
            weights[name] = parameter
    if not weights:
        raise StepFailed(
            "The model has no float32 weight that can be trained: leave 'recover' out, or upload"
            " it in float32."
        )
    return weights
