"""The training of a student, in the one loop of all trainings."""

from collections.abc import Callable, Sequence

import onnx_ir as ir
import torch
from torch import Tensor

from app.domain.problems import StepFailed
from app.domain.steps import Distill
from workers.compression.executor import Executor, build, write_back
from workers.compression.learning.feed import Batch, Feed, Outputs, feed_for
from workers.compression.learning.learner import trained
from workers.compression.learning.loop import train
from workers.compression.learning.plan import Minutes
from workers.compression.learning.recovery import holding
from workers.compression.learning.task import Task
from workers.compression.learning.teacher import answers, probe
from workers.compression.measure import quality
from workers.compression.methods.distill.taps import Pair, match, shapes_of, taps
from workers.compression.methods.distill.terms import Ingredients, term
from workers.compression.samples.context import Context

_INSIDE = {"features", "attention", "relational"}
"""Losses that look at inner layers."""


def learn(
    student: ir.Model,
    teacher: ir.Model,
    feed: Feed,
    parameters: Distill,
    context: Context,
    advance: Callable[[float], None],
) -> None:
    """Train a student to answer as a teacher, and write the best weights into it.

    Zeros of a sparse weight stay, and so do measured statistics.

    Args:
        student: the graph that learns; it has the teacher's outputs.
        teacher: the graph that is imitated.
        feed: the samples, in runs that both take; see ``runs``.
        parameters: what is minimised, and how.
        context: seed, device, workspace, the metric.
        advance: called with the fraction done.

    Raises:
        DatasetMismatch: targets and output do not fit each other.
        StepFailed: there is nothing to train or to compare, or training goes astray.
    """
    minutes = Minutes(parameters.recover.minutes, context.clock)
    names = [str(value.name) for value in teacher.graph.outputs]
    pairs, spatial = _pairs(student, teacher, parameters, context)
    inside = [*pairs, *spatial]
    pupil = _runnable(student, names, [tap.name for tap, _ in inside], context.device)
    master = _runnable(teacher, names, [tap.name for _, tap in inside], context.device)
    master.requires_grad_(requires_grad=False)
    outputs, targets = probe(master, feed, context.seed)
    ingredients = Ingredients(
        outputs=outputs,
        answers=names,
        targets=targets,
        judged=quality.judged_output(teacher, context.evaluate),
        yardstick=quality.yardstick(teacher, feed.samples.targets, context.evaluate),
        pairs=pairs,
        spatial=spatial,
        labelled=_learns_classes(parameters, targets),
        seed=context.seed,
        device=context.device,
    )
    assert parameters.losses is not None, "the step's defaults are filled in"
    terms = [(wish.weight, term(wish, ingredients)) for wish in parameters.losses]
    taught = answers(master, feed, minutes)

    def loss(outputs: Outputs, batch: Batch) -> Tensor:
        wanted = taught(batch)
        parts = [weight * loss_of(outputs, wanted, batch.targets) for weight, loss_of in terms]
        return torch.stack(parts).sum()

    weights = trained(student, pupil, {})
    task = Task(
        parameters={**weights, **ingredients.projections},
        forward=pupil,
        loss=loss,
        constrain=holding(pupil, weights),
        yardstick=ingredients.yardstick,
    )
    train(task, feed, parameters.recover, context, advance, minutes, "distill")
    write_back(pupil, student)


def _learns_classes(parameters: Distill, targets: Tensor | None) -> bool:
    """Return whether the labels are learned, and are classes."""
    wanted = any(loss.kind == "labels" for loss in parameters.losses or [])
    return wanted and targets is not None and not targets.is_floating_point()


def runs(student: ir.Model, teacher: ir.Model, parameters: Distill, context: Context) -> Feed:
    """Return the training samples in runs that student and teacher take.

    Raises:
        StepFailed: there is no data.
    """
    samples = context.train
    if samples is None or not len(samples):
        raise StepFailed("Distillation needs a dataset: name one; it needs no targets.")
    feeds = [
        feed_for(
            build(model).to(context.device), samples, context.device,
            parameters.recover.augment or (),
        )
        for model in (student, teacher)
    ]  # fmt: skip
    return min(feeds, key=lambda feed: feed.size)


def _pairs(
    student: ir.Model, teacher: ir.Model, parameters: Distill, context: Context
) -> tuple[list[Pair], list[Pair]]:
    """Return the layers to compare: any, and those with places; none where no loss asks."""
    if not _INSIDE.intersection(loss.kind for loss in parameters.losses or []):
        return [], []
    size = context.layout.size
    mine, theirs = (taps(model, shapes_of(model, context), size) for model in (student, teacher))
    return match(mine, theirs), match(mine, theirs, spatial=True)


def _runnable(
    model: ir.Model, outputs: Sequence[str], inside: Sequence[str], device: str
) -> Executor:
    return build(model, outputs=list(dict.fromkeys([*outputs, *inside]))).to(device)
