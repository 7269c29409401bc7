"""Trains a student with the training loop of ``learning``."""

from collections.abc import Callable, Sequence

import onnx_ir as ir
import torch
from torch import Tensor

from app.domain.problems import StepFailed
from app.domain.steps import Distill
from workers.compression.executor import Executor, build, write_back
from workers.compression.learning.feed import Batch, Feed, Outputs, feed_for
from workers.compression.learning.learner import trainable_parameters
from workers.compression.learning.loop import train
from workers.compression.learning.plan import Minutes
from workers.compression.learning.recovery import holding
from workers.compression.learning.task import Task
from workers.compression.learning.teacher import Answers, answers, probe
from workers.compression.measure import quality
from workers.compression.methods.distill.taps import Pair, match, shapes_of, taps
from workers.compression.methods.distill.terms import Ingredients, term
from workers.compression.samples.context import Context

_INSIDE = {"features", "attention", "relational"}
"""Losses that compare inner layers."""


def learn(
    student: ir.Model,
    teacher: ir.Model,
    feed: Feed,
    parameters: Distill,
    context: Context,
    advance: Callable[[float], None],
) -> None:
    """Train a student to imitate a teacher, and write the best weights into it.

    Zeros of sparse weights and measured statistics do not change.

    Args:
        student: the graph to train; it has the teacher's outputs.
        teacher: the graph that is imitated.
        feed: the samples, in runs that both graphs take; see ``runs``.
        parameters: the losses and the training.
        context: seed, device, workspace, the metric.
        advance: called with the fraction done.

    Raises:
        DatasetMismatch: targets and output do not fit each other.
        StepFailed: there is nothing to train or to compare, or training diverges.
    """
    minutes = Minutes(parameters.recover.minutes, context.clock)
    names = [str(value.name) for value in teacher.graph.outputs]
    pairs, spatial = _pairs(student, teacher, parameters, context)
    student_taps, teacher_taps = (
        [pair[side].name for pair in (*pairs, *spatial)] for side in (0, 1)
    )
    executor = _runnable(student, names, student_taps, context.device)
    teacher_executor = _runnable(teacher, names, teacher_taps, context.device)
    teacher_executor.requires_grad_(requires_grad=False)
    outputs, targets = probe(teacher_executor, feed, context.seed)
    ingredients = Ingredients(
        outputs=outputs,
        answers=names,
        targets=targets,
        judged=quality.judged_output(teacher, context.evaluate),
        yardstick=quality.yardstick(teacher, feed.samples.targets, context.evaluate),
        pairs=pairs,
        spatial=spatial,
        labelled=_learns_labels(parameters, targets),
        seed=context.seed,
        device=context.device,
    )
    loss = _loss(parameters, ingredients, answers(teacher_executor, feed, minutes))
    weights = trainable_parameters(student, executor, {})
    task = Task(
        parameters={**weights, **ingredients.projections},
        forward=executor,
        loss=loss,
        constrain=holding(executor, weights),
        yardstick=ingredients.yardstick,
    )
    train(task, feed, parameters.recover, context, advance, minutes, "distill")
    write_back(executor, student)


def _loss(
    parameters: Distill, ingredients: Ingredients, teacher_outputs: Answers
) -> Callable[[Outputs, Batch], Tensor]:
    """Return the weighted sum of the losses.

    Projections that it trains beside the student are added to the ingredients.
    """
    assert parameters.losses is not None, "the step's defaults are filled in"
    terms = [(loss.weight, term(loss, ingredients)) for loss in parameters.losses]

    def total(outputs: Outputs, batch: Batch) -> Tensor:
        expected = teacher_outputs(batch)
        values = [weight * value(outputs, expected, batch.targets) for weight, value in terms]
        return torch.stack(values).sum()

    return total


def _learns_labels(parameters: Distill, targets: Tensor | None) -> bool:
    """Return whether there is a loss of labels, and the labels are classes."""
    has_label_loss = any(loss.kind == "labels" for loss in parameters.losses or [])
    return has_label_loss and targets is not None and not targets.is_floating_point()


def runs(student: ir.Model, teacher: ir.Model, parameters: Distill, context: Context) -> Feed:
    """Return the training samples, in runs that both student and teacher take.

    Raises:
        StepFailed: there is no data.
    """
    samples = context.train
    if not samples:
        raise StepFailed("Distillation needs a dataset: name one; it needs no targets.")
    feeds = [
        feed_for(
            build(model).to(context.device), samples, context.device,
            parameters.recover.augment,
        )
        for model in (student, teacher)
    ]  # fmt: skip
    return min(feeds, key=lambda feed: feed.size)


def _pairs(
    student: ir.Model, teacher: ir.Model, parameters: Distill, context: Context
) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs of layers to compare, and those among them that have spatial axes.

    Both are empty if no loss compares inner layers.
    """
    if not _INSIDE.intersection(loss.kind for loss in parameters.losses or []):
        return [], []
    size = context.layout.size
    student_taps, teacher_taps = (
        taps(model, shapes_of(model, context), size) for model in (student, teacher)
    )
    return match(student_taps, teacher_taps), match(student_taps, teacher_taps, spatial=True)


def _runnable(
    model: ir.Model, outputs: Sequence[str], inner_values: Sequence[str], device: str
) -> Executor:
    return build(model, outputs=list(dict.fromkeys([*outputs, *inner_values]))).to(device)
