"""Distillation: a student learns to answer as its teacher does."""

from collections.abc import Callable

import onnx_ir as ir

from app.domain.problems import StepFailed
from app.domain.reports import LayerChange
from app.domain.steps import Distill
from app.domain.steps.distill import Architecture, Derived
from workers.compression.architectures import ARCHITECTURES, interface_of
from workers.compression.context import Context
from workers.compression.graph.load import load, weight_bytes
from workers.compression.methods.distill import norms
from workers.compression.methods.distill.derive import derive
from workers.compression.methods.distill.learn import learn, runs
from workers.compression.methods.distill.taps import shapes_of
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune.channels import changes

_MAKING = 0.1
"""Of the progress; the rest is training."""

_LEAST_RUN = 8
"""Samples of a batch whose statistics are worth something."""


def distill(
    model: ir.Model, parameters: Distill, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Make a student and train it.

    Args:
        model: the graph that the step is given: what ``derive`` scales, and the teacher
            ``previous``.
        parameters: student, teacher, losses, training.
        context: the samples, the teacher ``original``, seed, device, workspace.
        advance: told the fraction done.

    Raises:
        StepFailed: the student cannot read the model's inputs or answer as it does, there is no
            data, or training goes astray.
    """

    def making(done: float) -> None:
        advance(_MAKING * done)

    def learning(done: float) -> None:
        advance(_MAKING + (1 - _MAKING) * done)

    teacher = _teacher(model, parameters, context)
    wish = parameters.student
    if isinstance(wish, Derived):
        student, skipped = derive(model, wish.derive, context, making)
        feed = runs(student, teacher, parameters, context)
        learn(student, teacher, feed, parameters, context, learning)
        return Outcome(student, changes(model, student), skipped)
    if isinstance(wish, Architecture):
        student = _built(teacher, wish, context)
        _learn_from_nothing(student, teacher, parameters, context, learning)
        return Outcome(student, [_replaced(model, student, wish)])
    raise StepFailed("Another model cannot be the student: derive one, or name an architecture.")


def _teacher(model: ir.Model, parameters: Distill, context: Context) -> ir.Model:
    if parameters.teacher == "previous":
        return model
    if parameters.teacher != "original":
        raise StepFailed("Another model cannot be the teacher: name 'original' or 'previous'.")
    assert context.original is not None, "a context without the original cannot teach"
    return load(context.original)


def _built(teacher: ir.Model, wish: Architecture, context: Context) -> ir.Model:
    """Return an untrained network that reads and answers what the teacher does."""
    interface = interface_of(teacher, shapes_of(teacher, context))
    return ARCHITECTURES[wish.architecture](interface, wish.width, context.seed)


def _learn_from_nothing(
    student: ir.Model,
    teacher: ir.Model,
    parameters: Distill,
    context: Context,
    advance: Callable[[float], None],
) -> None:
    """Train a network with normalisation by the batch, then fold what was measured.

    Where a run takes too few samples for that, normalisation is measured before training.
    """
    feed = runs(student, teacher, parameters, context)
    batched = norms.by_batch(student)
    if feed.size < _LEAST_RUN:
        norms.settle(student, batched, feed)
        learn(student, teacher, feed, parameters, context, advance)
        return
    learn(batched, teacher, feed, parameters, context, advance)
    norms.settle(student, batched, feed)


def _replaced(before: ir.Model, after: ir.Model, wish: Architecture) -> LayerChange:
    return LayerChange(
        node=str(after.graph.name),
        operator="graph",
        change=f"the whole graph → {wish.architecture}, width {wish.width:g}",
        bytes_before=weight_bytes(before),
        bytes_after=weight_bytes(after),
    )
