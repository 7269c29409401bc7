"""Builds a student of a given architecture, and finds its width where only its cost is given."""

from collections.abc import Callable

import onnx_ir as ir

from app.domain.problems import StepFailed
from app.domain.steps.distill import Architecture
from workers.compression.architectures import ARCHITECTURES, interface_of
from workers.compression.graph import stats
from workers.compression.graph.load import weight_bytes
from workers.compression.graph.rewrites.batchnorm import fold_batchnorm
from workers.compression.graph.shapes import sizes_of
from workers.compression.measure.latency import time_saved
from workers.compression.methods.distill.taps import shapes_of
from workers.compression.samples.context import Context

_NARROWEST, _WIDEST = 1 / 16, 4.0
_HALVINGS = 8
"""The number of bisections of the width: channels are multiples of eight, more change nothing."""

Build = Callable[[float], ir.Model]


def build_student(
    teacher: ir.Model, requested: Architecture, context: Context
) -> tuple[ir.Model, str]:
    """Return an untrained network with the teacher's inputs and outputs, and its description.

    Args:
        teacher: the graph that the student will replace.
        requested: the architecture, with its width or its allowed cost.
        context: a sample, seed, threads.

    Raises:
        StepFailed: the architecture cannot read the inputs, or costs too much at any width.
    """
    interface = interface_of(teacher, shapes_of(teacher, context))

    def build(width: float) -> ir.Model:
        return ARCHITECTURES[requested.architecture](interface, width, context.seed)

    width = requested.known_width
    if width is None:
        width = _width(build, teacher, requested, context)
    return build(width), f"{requested.architecture}, width {width:g}"


def _width(build: Build, teacher: ir.Model, requested: Architecture, context: Context) -> float:
    """Return the largest width that saves the requested share of the teacher's cost."""
    assert requested.ratio is not None
    allowed = 1 - requested.ratio

    def cost(width: float) -> float:
        return _share(build(width), teacher, requested.of, context)

    least = cost(_NARROWEST)
    if least > allowed:
        raise StepFailed(
            f"Even the narrowest {requested.architecture} has {least:.1%} of the teacher's"
            f" {requested.of}, and 'ratio' {requested.ratio:g} allows {allowed:.1%}: ask for less,"
            " or for another architecture."
        )
    low, high = _NARROWEST, _WIDEST
    if cost(high) <= allowed:
        return high
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if cost(middle) <= allowed else (low, middle)
    return round(low, 3)


def _share(student: ir.Model, teacher: ir.Model, of: str, context: Context) -> float:
    """Return the ratio of a student's cost to the teacher's cost."""
    fold_batchnorm(student)
    if of == "latency":
        return 1 - time_saved(teacher, student, context.example, context.threads)
    if of == "size":
        return weight_bytes(student) / weight_bytes(teacher)
    student_figures, teacher_figures = (
        stats.measure(model, sizes_of(model, context.example), context.example, context.layout.size)
        for model in (student, teacher)
    )
    if of == "macs":
        return student_figures.macs / max(teacher_figures.macs, 1)
    return student_figures.parameters / max(teacher_figures.parameters, 1)
