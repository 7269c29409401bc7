"""Trains a graph that a step has changed, until its quality is back.

::

    model = recover(model, parameters.recover, context, advance)

is the only call that a method needs.
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
    is_quantized,
    normalisation_helps,
    normalised_learner,
    plain_learner,
)
from workers.compression.learning.loop import train
from workers.compression.learning.plan import Minutes
from workers.compression.learning.task import Task
from workers.compression.learning.teacher import Answers, answers, probe
from workers.compression.measure import quality
from workers.compression.samples.context import Context, Samples

Constrain = Callable[[Executor, float], None]
"""Applies the constraint of a step to the weights, given the share of the training done."""

LEAST_ZEROS = 0.05
"""The share of zeros from which the zeros of a weight count as deliberate."""


@dataclass(frozen=True)
class Demands:
    """Constraints that a step puts on the training of its graph.

    Attributes:
        constrain: called after each step of the optimizer, without gradient.
        settled: the share of the training after which a state may be kept; earlier states, the
            start included, do not meet the constraint yet.
        rates: factors of the learning rate by initializer. 0 freezes it; a scale of quantization
            is trained only if it has a factor here.
    """

    constrain: Constrain | None = None
    settled: float = 0.0
    rates: Mapping[str, float] = field(default_factory=dict)


def recover(
    model: ir.Model,
    settings: Recover,
    context: Context,
    advance: Callable[[float], None],
    demands: Demands | None = None,
    name: str = "recovery",
) -> ir.Model:
    """Train a graph's weights on the training split, and write the best ones into it.

    The zeros of a sparse weight (one with at least a twentieth of zeros) stay zeros. Scales of
    quantization and statistics of normalisation are left alone.

    Args:
        model: in normal form; its initializers change, and nothing else.
        settings: how to train, as the user asked for it.
        context: the samples, the teacher (``original``), seed, device, workspace.
        advance: called with the fraction done.
        demands: constraints on the training; none by default.
        name: names the checkpoint, where a step trains more than once; each training resumes from
            its own after the process was killed.

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
    minutes = Minutes(settings.minutes, context.clock)
    demands = demands or Demands()
    learner = _learner(model, samples, settings, context, demands)
    task = Task(
        parameters=learner.parameters,
        forward=learner.forward,
        loss=loss_of(model, learner, settings, context, minutes),
        rates={n: factor for n, factor in demands.rates.items() if n in learner.parameters},
        constrain=holding(learner.executor, learner.parameters, demands.constrain),
        settled=demands.settled,
        yardstick=quality.yardstick(model, samples.targets, context.evaluate),
        exact=is_quantized(model),
        normalised=learner.normalised,
    )
    train(task, learner.feed, settings, context, advance, minutes, name)
    learner.write_back()
    return model


def _learner(
    model: ir.Model, samples: Samples, settings: Recover, context: Context, demands: Demands
) -> Learner:
    """Return the learner for a model: the model itself, or a copy with batch normalisation.

    Batch normalisation rescales weights, so it is left out where a step constrains them.
    """
    plain = plain_learner(model, samples, settings, context.device, demands.rates)
    if demands.rates or demands.constrain is not None:
        return plain
    classes = default_loss(samples) == "both"
    if not normalisation_helps(model, plain.feed, settings, context, classes=classes):
        return plain
    return normalised_learner(model, plain, settings, context.seed)


def default_loss(samples: Samples) -> Loss:
    """Return the loss for samples where the user names none."""
    classes = samples.targets is not None and samples.targets.dtype.kind in "iub"
    return "both" if classes else "teacher"


def holding(
    executor: Executor, parameters: Mapping[str, nn.Parameter], constrain: Constrain | None = None
) -> Callable[[float], None]:
    """Return the constraint after each optimizer step: zeros stay zeros, then ``constrain``."""
    zeros = _sparse(parameters)

    def hold(done: float) -> None:
        for weight, mask in zeros:
            weight.mul_(mask)
        if constrain is not None:
            constrain(executor, done)

    return hold


def _sparse(parameters: Mapping[str, nn.Parameter]) -> list[tuple[nn.Parameter, Tensor]]:
    """Return the sparse weights, each with the mask of its nonzero elements."""
    sparse = []
    for weight in parameters.values():
        mask = weight.detach() != 0
        share = 1 - float(mask.float().mean())
        if weight.ndim >= 2 and LEAST_ZEROS <= share < 1:
            sparse.append((weight, mask))
    return sparse


def loss_of(
    model: ir.Model, learner: Learner, settings: Recover, context: Context, minutes: Minutes
) -> Callable[[Outputs, Batch], Tensor]:
    """Return the loss that the training minimises: against targets, the original, or both."""
    feed, name = learner.feed, quality.judged_output(model, context.evaluate)
    kind = settings.loss or ("teacher" if "mix" in feed.kinds else default_loss(feed.samples))
    terms: list[objectives.Term] = []
    teacher_answers: Answers = lambda _batch: {}  # noqa: E731 (nobody teaches)
    if kind in ("labels", "both"):
        outputs, targets = probe(learner.forward, feed, context.seed)
        if targets is None:
            raise DatasetMismatch("The dataset has no targets: train with 'loss': 'teacher'.")
        yardstick = quality.yardstick(model, feed.samples.targets, context.evaluate)
        terms.append(objectives.labels(name, outputs[name], targets, yardstick))
    if kind in ("teacher", "both"):
        assert context.original is not None, "a context without the original cannot teach"
        teacher = build(load(context.original)).to(context.device)
        teacher.requires_grad_(requires_grad=False)
        outputs, targets = probe(teacher, feed, context.seed)
        imitation_terms = objectives.imitation(outputs, targets, name, objectives.TEMPERATURE)
        terms.append(objectives.mean(imitation_terms))
        teacher_answers = answers(teacher, feed, minutes)

    def loss(outputs: Outputs, batch: Batch) -> Tensor:
        teacher_outputs = teacher_answers(batch)
        return torch.stack([term(outputs, teacher_outputs, batch.targets) for term in terms]).sum()

    return loss
