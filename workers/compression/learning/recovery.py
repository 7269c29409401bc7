"""Trains a graph that a step has changed, until it answers as well as before.

::

    model = recover(model, parameters.recover, context, advance)

is all that a method needs to say.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir
import torch
from torch import Tensor, nn

from app.domain.problems import DatasetMismatch, StepFailed
from app.domain.steps.recover import Loss, Recover
from workers.compression.executor import Executor, build
from workers.compression.graph.load import load
from workers.compression.learning import objectives
from workers.compression.learning.feed import Batch, Outputs
from workers.compression.learning.learner import (
    Learner,
    as_it_is,
    gains_by_normalisation,
    is_rounded,
    with_normalisation,
)
from workers.compression.learning.loop import train
from workers.compression.learning.plan import Minutes
from workers.compression.learning.task import Task
from workers.compression.learning.teacher import Answers, answers, probe
from workers.compression.measure import quality
from workers.compression.samples.context import Context, Samples

Constrain = Callable[[Executor, float], None]
"""Puts weights back to where they must be, given the share of the training that is done."""

LEAST_ZEROS = 0.05
"""Share of a weight that makes its zeros deliberate."""


@dataclass(frozen=True)
class Demands:
    """What a step demands of the training of its graph.

    Attributes:
        constrain: called after each step of the optimizer, without gradient.
        settled: the share of the training from which a state may be kept; earlier ones, the start
            included, are not what is asked for yet.
        rates: factors of the learning rate by initializer: 0 leaves it alone, and a scale that is
            named is trained.
    """

    constrain: Constrain | None = None
    settled: float = 0.0
    rates: Mapping[str, float] = field(default_factory=dict)


def recover(
    model: ir.Model,
    wish: Recover,
    context: Context,
    advance: Callable[[float], None],
    demands: Demands | None = None,
    name: str = "recovery",
) -> ir.Model:
    """Train a graph's weights on the training split, and write the best ones into it.

    Zeros of a sparse weight (a twentieth of it or more) stay. Scales of quantization and statistics
    of normalisation are left alone.

    Args:
        model: in normal form; its initializers change, and nothing else.
        wish: how to train.
        context: the samples, the teacher (``original``), seed, device, workspace.
        advance: called with the fraction done.
        demands: what must hold during the training; nothing by default.
        name: of the training, where a step trains more than once: each goes on by itself after a
            killed process.

    Returns:
        ``model``.

    Raises:
        DatasetMismatch: targets and output do not fit each other.
        StepFailed: there is no data, no weight that can be trained, or training goes astray.
    """
    samples = context.train
    if samples is None:
        raise StepFailed("Training needs a dataset: name one, or leave 'recover' out.")
    torch.set_num_threads(context.threads)  # sums depend on it
    minutes = Minutes(wish.minutes, context.clock)
    demands = demands or Demands()
    learner = _learner(model, samples, wish, context, demands)
    task = Task(
        parameters=learner.parameters,
        forward=learner.forward,
        loss=_loss(model, learner, wish, context, minutes),
        rates={n: factor for n, factor in demands.rates.items() if n in learner.parameters},
        constrain=holding(learner.executor, learner.parameters, demands.constrain),
        settled=demands.settled,
        yardstick=quality.yardstick(model, samples.targets, context.evaluate),
        exact=is_rounded(model),
        normalised=learner.normalised,
    )
    train(task, learner.feed, wish, context, advance, minutes, name)
    learner.give_back()
    return model


def _learner(
    model: ir.Model, samples: Samples, wish: Recover, context: Context, demands: Demands
) -> Learner:
    """Return the graph that is trained for a model.

    Normalisation is lent where nothing speaks against it: a weight that must be where a step wants
    it cannot be rescaled.
    """
    plain = as_it_is(model, samples, wish, context.device, demands.rates)
    if demands.rates or demands.constrain is not None:
        return plain
    classes = default_loss(samples) == "both"
    if not gains_by_normalisation(model, plain.feed, wish, context, classes=classes):
        return plain
    return with_normalisation(model, plain, wish, context.seed)


def default_loss(samples: Samples) -> Loss:
    """Return what is trained against where the user does not say."""
    classes = samples.targets is not None and samples.targets.dtype.kind in "iub"
    return "both" if classes else "teacher"


def holding(
    executor: Executor, parameters: Mapping[str, nn.Parameter], constrain: Constrain | None = None
) -> Callable[[float], None]:
    """Return what puts weights back after a step: zeros of sparse ones, then what constrains."""
    zeros = _sparse(parameters)

    def hold(done: float) -> None:
        for weight, mask in zeros:
            weight.mul_(mask)
        if constrain is not None:
            constrain(executor, done)

    return hold


def _sparse(parameters: Mapping[str, nn.Parameter]) -> list[tuple[nn.Parameter, Tensor]]:
    """Return the weights with deliberate zeros, and what is not zero in them."""
    sparse = []
    for weight in parameters.values():
        mask = weight.detach() != 0
        share = 1 - float(mask.float().mean())
        if weight.ndim >= 2 and LEAST_ZEROS <= share < 1:
            sparse.append((weight, mask))
    return sparse


def _loss(
    model: ir.Model, learner: Learner, wish: Recover, context: Context, minutes: Minutes
) -> Callable[[Outputs, Batch], Tensor]:
    """Put together what is minimised."""
    feed, name = learner.feed, quality.judged_output(model, context.evaluate)
    kind = wish.loss or default_loss(feed.samples)
    terms: list[objectives.Term] = []
    taught: Answers = lambda _batch: {}  # noqa: E731 (nobody teaches)
    if kind in ("labels", "both"):
        outputs, targets = probe(learner.executor, feed, context.seed)
        if targets is None:
            raise DatasetMismatch("The dataset has no targets: train with 'loss': 'teacher'.")
        yardstick = quality.yardstick(model, feed.samples.targets, context.evaluate)
        terms.append(objectives.labels(name, outputs[name], targets, yardstick))
    if kind in ("teacher", "both"):
        assert context.original is not None, "a context without the original cannot teach"
        teacher = build(load(context.original)).to(context.device)
        teacher.requires_grad_(requires_grad=False)
        outputs, targets = probe(teacher, feed, context.seed)
        imitated = objectives.imitation(outputs, targets, name, objectives.TEMPERATURE)
        terms.append(objectives.mean(imitated))
        taught = answers(teacher, feed, minutes)

    def loss(outputs: Outputs, batch: Batch) -> Tensor:
        wanted = taught(batch)
        return torch.stack([term(outputs, wanted, batch.targets) for term in terms]).sum()

    return loss
