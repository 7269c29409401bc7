"""The default of quantization: each layer gets the form that pays, within a bound of the loss.

The forms, from the fastest to the nearest:

1. Integers throughout, calibrated on data (``static``) or with ranges found at run time
   (``dynamic``): whichever makes the better graph once layers that are slower or lose too much are
   taken out. Without data quality cannot be judged, and nothing computes in integers.
2. Arithmetic in float with weights stored in eight bits, or in four where size is preferred.
3. Arithmetic in float with weights stored in half.

The bound is the job's, or a point. It is kept on training samples that calibration did not look at.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import onnx_ir as ir

from app.domain.problems import StepFailed
from app.domain.steps import Quantize
from workers.compression.graph.narrow import mark_stored, stored_type
from workers.compression.measure.latency import beside
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.dynamic import quantize_dynamic
from workers.compression.methods.quantize.layers import select
from workers.compression.methods.quantize.nearest import parted
from workers.compression.methods.quantize.paying import file_bytes
from workers.compression.methods.quantize.settling import store_rest
from workers.compression.methods.quantize.static import quantize_static
from workers.compression.samples.context import Context, Samples

Advance = Callable[[float], None]

_BOUND = 0.01
"""The drop of quality that is allowed where the job names none: a point, or 1 % of variance."""

_WORTH = {"balanced": (1.0, 0.5), "size": (0.1, 1.0), "speed": (1.0, 0.1)}
"""Powers of the gains in time and in bytes that are weighed against each other."""

_PRODUCTS = 0.2
"""Share of the weights that products must have for ranges at run time to be tried."""

_HALF = "Weights that stay in float are stored in half, and are float32 once a session is open."

_UNJUDGED = (
    "Quality was not measured on real data: without a dataset no layer computes in integers, and"
    " weights are stored in eight bits."
)


@dataclass(frozen=True)
class _Way:
    """A graph, and what speaks for it."""

    outcome: Outcome
    faster: float
    """Times as fast as before."""
    smaller: float
    """Times as small as before."""

    def worth(self, prefer: str) -> float:
        """Return what is compared between ways."""
        time, size = _WORTH[prefer]
        return float(self.faster**time * self.smaller**size)


def quantize_auto(
    model: ir.Model, parameters: Quantize, context: Context, advance: Advance
) -> Outcome:
    """Choose among all forms, layer by layer; never slower and never larger than before.

    Args:
        model: the graph; not changed where it is not returned.
        parameters: what is preferred, and what is left alone.
        context: the bound, the data, an example to time.
        advance: called with the fraction done.
    """
    bound = _BOUND if context.max_quality_drop is None else context.max_quality_drop
    bounded = replace(context, max_quality_drop=bound)
    if context.train is None or len(context.train) == 0:
        outcome = Outcome(model, [], [], [_UNJUDGED])
        return _stored(outcome, parameters, context, None)
    _, judged = parted(context.train, parameters, context.seed)
    ways = []
    for way in _ways(model, parameters, bounded, advance):
        whole = _stored(way, parameters, bounded, judged)
        ways.append(_judged(model, whole, context))
    best = max(ways, key=lambda way: way.worth(parameters.prefer))
    return best.outcome


def _ways(
    model: ir.Model, parameters: Quantize, context: Context, advance: Advance
) -> Iterator[Outcome]:
    """Yield the graph in integers in each way, and as it is."""
    yield Outcome(model.clone())
    static = parameters.model_copy(update={"mode": "static"})
    layers = [layer for layer in select(model, static)[0] if layer.integer]
    if layers:
        yield quantize_static(model.clone(), static, context, lambda f: advance(0.6 * f))
    products = parameters.model_copy(update={"mode": "dynamic"})
    share = sum(layer.weights.size for layer in select(model, products)[0])
    if share > _PRODUCTS * sum(layer.weights.size for layer in layers):
        try:
            yield quantize_dynamic(
                model.clone(), products, context, lambda f: advance(0.6 + 0.4 * f)
            )
        except StepFailed:  # its opset is too old for it
            return


def _stored(
    outcome: Outcome, parameters: Quantize, context: Context, judged: Samples | None
) -> Outcome:
    """Store what computes in float in the fewest bits that the bound allows."""
    if parameters.prefer == "size" and judged is not None:
        few = parameters.model_copy(update={"weights": "int4"})
        outcome = store_rest(outcome, few, None, context, judged)
    outcome = store_rest(outcome, parameters, None, context, judged)
    return outcome if parameters.ignore else _in_half(outcome)


def _in_half(outcome: Outcome) -> Outcome:
    """Store in half what is left in float: a file that is smaller for sure, at no cost of time."""
    before = file_bytes(outcome.model)
    halved = outcome.model.clone()
    mark_stored(halved, ir.DataType.FLOAT16)
    if stored_type(outcome.model) is not None or file_bytes(halved) >= before:
        return outcome
    return replace(outcome, model=halved, notes=[*outcome.notes, _HALF])


def _judged(before: ir.Model, outcome: Outcome, context: Context) -> _Way:
    """Measure what speaks for a graph."""
    faster = 1.0
    if outcome.layers and context.example:
        faster = beside(before, outcome.model, context.example, context.threads).value
    return _Way(outcome, faster, file_bytes(before) / file_bytes(outcome.model))
