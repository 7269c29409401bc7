"""The default mode of quantization: each layer gets the best form within a bound of the quality.

The forms, from the fastest to the most accurate:

1. Integer arithmetic, with ranges from calibration data (``static``) or from the run (``dynamic``).
   Layers that are slower in integers, or lose too much quality, are excluded; then the better of
   the two graphs is taken. Without data the quality cannot be measured, and no layer computes in
   integers.
2. Float arithmetic, with weights stored in eight bits, or in four bits if size is preferred.
3. Float arithmetic, with weights stored in float16.

The bound is that of the job, or one percentage point. It is checked on training samples that are
not used for calibration.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from app.domain.problems import StepFailed
from app.domain.reports import Choice
from app.domain.steps import Quantize
from workers.compression.graph.narrow import mark_stored, stored_type
from workers.compression.measure.latency import time_ratio
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.comparison import split_samples
from workers.compression.methods.quantize.dynamic import quantize_dynamic
from workers.compression.methods.quantize.exclusions import file_bytes
from workers.compression.methods.quantize.layers import select
from workers.compression.methods.quantize.quality_bound import Judging
from workers.compression.methods.quantize.selection import store_rest
from workers.compression.methods.quantize.static import quantize_static
from workers.compression.samples.context import Context, Samples

Advance = Callable[[float], None]

_BOUND = 0.01
"""The allowed drop of quality if the job sets no bound: one point, or 1 % of the variance."""

_WORTH = {"balanced": (1.0, 0.5), "size": (0.1, 1.0), "speed": (1.0, 0.1)}
"""The exponents of the speed-up and of the size ratio in the worth of a graph."""

_SMALLEST = {"balanced": 4.0, "size": 8.0, "speed": 4.0}
"""The greatest size ratio that weights stored in few bits can have."""

_PRODUCTS = 0.2
"""The least share of the weights in matrix products for which dynamic quantization is tried."""

_HALF = "Weights that stay in float are stored in half, and are float32 once a session is open."

_UNJUDGED = (
    "Quality was not measured on real data: without a dataset no layer computes in integers, and"
    " weights are stored in eight bits."
)


@dataclass(frozen=True)
class _Variant:
    """A quantized graph, with its speed-up and its size ratio."""

    outcome: Outcome
    faster: float
    """The original's latency over that of this graph."""
    smaller: float
    """The original's bytes over those of this graph."""
    point: Choice
    """Its place among the choices of the report."""

    def worth(self, prefer: str) -> float:
        """Return the figure by which variants are compared: larger is better."""
        time, size = _WORTH[prefer]
        return float(self.faster**time * self.smaller**size)


def quantize_auto(
    model: ir.Model, parameters: Quantize, context: Context, advance: Advance
) -> Outcome:
    """Choose a form for each layer; the graph never gets slower or larger.

    Args:
        model: the graph; not changed unless it is returned.
        parameters: the preference for size or speed, and the ignored nodes.
        context: the bound, the data, an example for timing.
        advance: called with the fraction done.
    """
    bound = _BOUND if context.max_quality_drop is None else context.max_quality_drop
    bounded = replace(context, max_quality_drop=bound)
    if context.train is None or len(context.train) == 0:
        outcome = Outcome(model, [], [], [_UNJUDGED])
        return _with_stored_weights(outcome, parameters, context, None)
    _, judging_samples = split_samples(context.train, parameters, context.seed)
    measured = list[_Variant]()
    with tempfile.TemporaryDirectory() as scratch:
        judging = Judging(model, judging_samples, bounded, Path(scratch))
        for title, variant in _variants(model, parameters, bounded, advance):
            if measured and not variant.layers and _surpasses(measured, parameters.prefer):
                break
            complete = _with_stored_weights(variant, parameters, bounded, judging_samples)
            measured.append(_measured(title, model, complete, judging, context))
    best = max(measured, key=lambda variant: variant.worth(parameters.prefer))
    considered = [choice for variant in measured for choice in variant.outcome.choices]
    points = [v.point.model_copy(update={"chosen": v is best}) for v in measured]
    return replace(best.outcome, choices=[*considered, *points])


def _surpasses(measured: Sequence[_Variant], prefer: str) -> bool:
    """Return whether storing the weights of the float graph in few bits cannot be better."""
    _, size = _WORTH[prefer]
    most = float(_SMALLEST[prefer] ** size)
    return any(variant.worth(prefer) >= most for variant in measured)


def _variants(
    model: ir.Model, parameters: Quantize, context: Context, advance: Advance
) -> Iterator[tuple[str, Outcome]]:
    """Yield the graph quantized statically, quantized dynamically, and as it is, with titles."""
    static = parameters.model_copy(update={"mode": "static"})
    layers = [layer for layer in select(model, static)[0] if layer.integer]
    if layers:
        outcome = quantize_static(model.clone(), static, context, lambda f: advance(0.6 * f))
        yield "integers with ranges from data", outcome
    products = parameters.model_copy(update={"mode": "dynamic"})
    share = sum(layer.weights.size for layer in select(model, products)[0])
    if context.has_time() and share > _PRODUCTS * sum(layer.weights.size for layer in layers):
        with suppress(StepFailed):  # the opset is too old
            outcome = quantize_dynamic(
                model.clone(), products, context, lambda f: advance(0.6 + 0.4 * f)
            )
            yield "integers with ranges from each run", outcome
    yield "floats with weights in few bits", Outcome(model.clone())


def _with_stored_weights(
    outcome: Outcome, parameters: Quantize, context: Context, judging_samples: Samples | None
) -> Outcome:
    """Store the weights of layers that compute in float in as few bits as the bound allows."""
    if parameters.prefer == "size" and judging_samples is not None:
        four_bits = parameters.model_copy(update={"weights": "int4"})
        outcome = store_rest(outcome, four_bits, None, context, judging_samples)
    outcome = store_rest(outcome, parameters, None, context, judging_samples)
    return outcome if parameters.ignore else _in_half(outcome)


def _in_half(outcome: Outcome) -> Outcome:
    """Store the remaining float weights in float16, if that makes the file smaller."""
    bytes_before = file_bytes(outcome.model)
    halved = outcome.model.clone()
    mark_stored(halved, ir.DataType.FLOAT16)
    if stored_type(outcome.model) is not None or file_bytes(halved) >= bytes_before:
        return outcome
    return replace(outcome, model=halved, notes=[*outcome.notes, _HALF])


def _measured(
    title: str, original: ir.Model, outcome: Outcome, judging: Judging, context: Context
) -> _Variant:
    """Measure the speed-up, the size ratio and the loss of a quantized graph."""
    faster, timed = 1.0, bool(outcome.layers and context.example)
    if timed:
        faster = time_ratio(original, outcome.model, context.example, context.threads).value
    size, lost = file_bytes(outcome.model), judging.drop(outcome.model)
    point = Choice(
        title=title,
        size_bytes=size,
        speedup=faster if timed else None,
        lost=lost if math.isfinite(lost) else None,
    )
    return _Variant(outcome, faster, file_bytes(original) / size, point)
