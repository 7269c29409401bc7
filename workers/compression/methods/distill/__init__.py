"""Distillation: a student learns to answer as its teacher does."""

from collections.abc import Callable

import onnx_ir as ir

from app.domain.directory import model_file
from app.domain.reports import LayerChange
from app.domain.steps import Distill, Skipped
from app.domain.steps.distill import Derived, Uploaded
from workers.compression.graph.fingerprint import fingerprint
from workers.compression.graph.kept import Kept
from workers.compression.graph.load import load, weight_bytes
from workers.compression.learning import norms
from workers.compression.methods.distill.build import build_student
from workers.compression.methods.distill.defaults import resolved
from workers.compression.methods.distill.derive import derive
from workers.compression.methods.distill.learn import learn, runs
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.prune.channels import changes
from workers.compression.progress import span
from workers.compression.samples.context import Context

_MAKING = 0.1
"""The share of the progress before training."""

_LEAST_RUN = 8
"""The least number of samples in a batch that batch statistics are computed from."""


def distill(
    model: ir.Model, parameters: Distill, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Make a student and train it.

    Args:
        model: the graph that the step is given: the graph that ``derive`` scales, and the teacher
            ``previous``.
        parameters: student, teacher, losses, training.
        context: the samples, the teacher ``original``, seed, device, workspace.
        advance: called with the fraction done.

    Returns:
        The student. If no smaller student can be derived: the graph as it is, not trained.

    Raises:
        StepFailed: the student cannot have the model's inputs and outputs, there is no data, or
            training diverges.
    """
    making, learning = span(advance, 0, _MAKING), span(advance, _MAKING, 1)
    teacher = _teacher(model, parameters, context)
    parameters = resolved(parameters, teacher, context)
    requested = parameters.student
    if isinstance(requested, Derived | Uploaded):
        student, skipped, kept = _initialized_student(model, parameters, context, making)
        if isinstance(requested, Derived) and fingerprint(student) == fingerprint(model):
            return Outcome(model, skipped=skipped)
        feed = runs(student, teacher, parameters, context)
        learn(student, teacher, feed, parameters, context, learning)
        layers = changes(model, student)
        if isinstance(requested, Uploaded):
            layers = [_replaced(model, student, requested.model)]
        return Outcome(student, layers, skipped, kept=kept)
    student, name = build_student(teacher, requested, context)
    _train_from_scratch(student, teacher, parameters, context, learning)
    return Outcome(student, [_replaced(model, student, name)])


def _initialized_student(
    model: ir.Model,
    parameters: Distill,
    context: Context,
    advance: Callable[[float], None],
) -> tuple[ir.Model, list[Skipped], Kept]:
    """Return a student that starts with weights, and what its derivation refused and kept."""
    requested = parameters.student
    if isinstance(requested, Derived):
        return derive(model, requested.derive, context, advance, parameters.multiple)
    assert isinstance(requested, Uploaded), "others are built"
    student = _load_model(requested.model, context)
    model_values = (*model.graph.inputs, *model.graph.outputs)
    student_values = (*student.graph.inputs, *student.graph.outputs)
    for model_value, student_value in zip(model_values, student_values, strict=True):
        student_value.shape = model_value.shape  # so dynamic dimensions have the job model's names
    return student, [], {}


def _load_model(model_id: str, context: Context) -> ir.Model:
    assert context.models is not None, "a step that names other models runs in a job"
    return load(model_file(context.models, model_id))


def _teacher(model: ir.Model, parameters: Distill, context: Context) -> ir.Model:
    if parameters.teacher == "previous":
        return model
    if parameters.teacher != "original":
        return _load_model(parameters.teacher, context)
    assert context.original is not None, "a context without the original cannot teach"
    return load(context.original)


def _train_from_scratch(
    student: ir.Model,
    teacher: ir.Model,
    parameters: Distill,
    context: Context,
    advance: Callable[[float], None],
) -> None:
    """Train a student from random weights with batch statistics, then fold measured statistics.

    If a run takes too few samples for batch statistics, they are measured and folded before
    training.
    """
    feed = runs(student, teacher, parameters, context)
    batched = norms.by_batch(student)
    if feed.size < _LEAST_RUN:
        norms.settle(student, batched, feed, context.seed)
        learn(student, teacher, feed, parameters, context, advance)
        return
    learn(batched, teacher, feed, parameters, context, advance)
    norms.settle(student, batched, feed, context.seed)


def _replaced(before: ir.Model, after: ir.Model, replacement: str) -> LayerChange:
    return LayerChange(
        node=str(after.graph.name),
        operator="graph",
        change=f"the whole graph → {replacement}",
        bytes_before=weight_bytes(before),
        bytes_after=weight_bytes(after),
    )
