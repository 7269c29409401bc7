"""Distillation: a student learns to answer as its teacher does."""

from collections.abc import Callable

import onnx_ir as ir

from app.domain.directory import model_file
from app.domain.reports import LayerChange
from app.domain.steps import Distill, Skipped
from app.domain.steps.distill import Derived, Uploaded
from workers.compression.graph.fingerprint import fingerprint
from workers.compression.graph.load import load, weight_bytes
from workers.compression.methods.distill import norms
from workers.compression.methods.distill.build import build_student
from workers.compression.methods.distill.defaults import resolved
from workers.compression.methods.distill.derive import derive
from workers.compression.methods.distill.learn import learn, runs
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune.channels import changes
from workers.compression.samples.context import Context

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

    Returns:
        The student; the graph as it is, and not trained, where nothing smaller can be derived.

    Raises:
        StepFailed: the student cannot read the model's inputs or answer as it does, there is no
            data, or training goes astray.
    """

    def making(done: float) -> None:
        advance(_MAKING * done)

    def learning(done: float) -> None:
        advance(_MAKING + (1 - _MAKING) * done)

    teacher = _teacher(model, parameters, context)
    parameters = resolved(parameters, teacher, context)
    wish = parameters.student
    if isinstance(wish, Derived | Uploaded):
        student, skipped = _given(model, wish, context, making)
        if isinstance(wish, Derived) and fingerprint(student) == fingerprint(model):
            return Outcome(model, skipped=skipped)
        feed = runs(student, teacher, parameters, context)
        learn(student, teacher, feed, parameters, context, learning)
        layers = changes(model, student)
        if isinstance(wish, Uploaded):
            layers = [_replaced(model, student, wish.model)]
        return Outcome(student, layers, skipped)
    student, name = build_student(teacher, wish, context)
    _learn_from_nothing(student, teacher, parameters, context, learning)
    return Outcome(student, [_replaced(model, student, name)])


def _given(
    model: ir.Model, wish: Derived | Uploaded, context: Context, advance: Callable[[float], None]
) -> tuple[ir.Model, list[Skipped]]:
    """Return a student that has weights already, and what was left alone."""
    if isinstance(wish, Derived):
        return derive(model, wish.derive, context, advance)
    student = _other(wish.model, context)
    ours = (*model.graph.inputs, *model.graph.outputs)
    theirs = (*student.graph.inputs, *student.graph.outputs)
    for own, other in zip(ours, theirs, strict=True):
        other.shape = own.shape  # dynamic dimensions are called as the job's model calls them
    return student, []


def _other(model_id: str, context: Context) -> ir.Model:
    assert context.models is not None, "a step that names other models runs in a job"
    return load(model_file(context.models, model_id))


def _teacher(model: ir.Model, parameters: Distill, context: Context) -> ir.Model:
    if parameters.teacher == "previous":
        return model
    if parameters.teacher != "original":
        return _other(parameters.teacher, context)
    assert context.original is not None, "a context without the original cannot teach"
    return load(context.original)


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
        norms.settle(student, batched, feed, context.seed)
        learn(student, teacher, feed, parameters, context, advance)
        return
    learn(batched, teacher, feed, parameters, context, advance)
    norms.settle(student, batched, feed, context.seed)


def _replaced(before: ir.Model, after: ir.Model, what: str) -> LayerChange:
    return LayerChange(
        node=str(after.graph.name),
        operator="graph",
        change=f"the whole graph → {what}",
        bytes_before=weight_bytes(before),
        bytes_after=weight_bytes(after),
    )
