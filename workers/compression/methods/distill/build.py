"""A student that is built: the architecture's layout for the input, at a width that is found."""

from collections.abc import Callable

import onnx_ir as ir

from app.domain.problems import StepFailed
from app.domain.steps.distill import Architecture
from workers.compression.architectures import ARCHITECTURES, interface_of
from workers.compression.graph import stats
from workers.compression.graph.load import weight_bytes
from workers.compression.graph.rewrites.batchnorm import fold_batchnorm
from workers.compression.graph.shapes import sizes_of
from workers.compression.measure.latency import saved
from workers.compression.methods.distill.taps import shapes_of
from workers.compression.samples.context import Context

_NARROWEST, _WIDEST = 1 / 16, 4.0
_HALVINGS = 8
"""Of the span of widths: channels are multiples of eight, so that finer steps change nothing."""

Build = Callable[[float], ir.Model]


def build_student(teacher: ir.Model, wish: Architecture, context: Context) -> tuple[ir.Model, str]:
    """Return an untrained network that reads and answers what the teacher does, and its name.

    Args:
        teacher: the graph to stand in for.
        wish: the architecture, and its width or what it may cost.
        context: a sample, seed, threads.

    Raises:
        StepFailed: the architecture cannot read the inputs, or costs too much at any width.
    """
    interface = interface_of(teacher, shapes_of(teacher, context))

    def build(width: float) -> ir.Model:
        return ARCHITECTURES[wish.architecture](interface, width, context.seed)

    width = wish.known_width
    if width is None:
        width = _width(build, teacher, wish, context)
    return build(width), f"{wish.architecture}, width {width:g}"


def _width(build: Build, teacher: ir.Model, wish: Architecture, context: Context) -> float:
    """Return the largest width that does without a share of what the teacher costs."""
    assert wish.ratio is not None
    allowed = 1 - wish.ratio

    def cost(width: float) -> float:
        return _share(build(width), teacher, wish.of, context)

    least = cost(_NARROWEST)
    if least > allowed:
        raise StepFailed(
            f"Even the narrowest {wish.architecture} has {least:.1%} of the teacher's {wish.of},"
            f" and 'ratio' {wish.ratio:g} allows {allowed:.1%}: ask for less, or for another"
            " architecture."
        )
    low, high = _NARROWEST, _WIDEST
    if cost(high) <= allowed:
        return high
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if cost(middle) <= allowed else (low, middle)
    return round(low, 3)


def _share(student: ir.Model, teacher: ir.Model, of: str, context: Context) -> float:
    """Return what a student costs over what the teacher costs."""
    fold_batchnorm(student)
    if of == "latency":
        return 1 - saved(teacher, student, context.example, context.threads)
    if of == "size":
        return weight_bytes(student) / weight_bytes(teacher)
    mine, theirs = (
        stats.measure(model, sizes_of(model, context.example), context.example, context.layout.size)
        for model in (student, teacher)
    )
    if of == "macs":
        return mine.macs / max(theirs.macs, 1)
    return mine.parameters / max(theirs.parameters, 1)
