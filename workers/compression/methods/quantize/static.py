"""Static quantization: the ranges of activations are calibrated on data, see ``calibrated``."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import onnx_ir as ir

from app.domain.steps import Quantize
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.calibrated import (
    Calibrated,
    chosen,
    finalists,
    measured,
    variants,
)
from workers.compression.methods.quantize.comparison import (
    calibrating,
    few_samples,
    split_samples,
)
from workers.compression.methods.quantize.corrections import (
    with_corrected_biases,
    with_learned_rounding,
)
from workers.compression.methods.quantize.judging import judging_of
from workers.compression.methods.quantize.kept import kept_calibration
from workers.compression.methods.quantize.opset import lifted
from workers.compression.methods.quantize.own_grids import Split, with_own_grids
from workers.compression.methods.quantize.selection import Prepared, quantize_profitable
from workers.compression.progress import span
from workers.compression.samples.context import Context, Samples

_CALIBRATION = 0.3
"""The share of the progress that is calibration, if layers may have to be ranked."""


def quantize_static(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Quantize weights and, unless ``activations`` is ``none``, the activations around them.

    Layers that are slower in integers stay in float. If the job bounds the loss of quality, further
    layers stay in float until the bound is met.

    Raises:
        StepFailed: there is no data to calibrate on, or the opset is too old.
    """
    judging = judging_of(model, samples_to_judge(parameters, context), context)
    share = 1.0 if judging is None else _CALIBRATION
    prepared = prepare(model, parameters, context, span(advance, 0, share))
    choosing = span(advance, share, 1)
    return quantize_profitable(prepared, model, parameters, context, choosing, judging)


def prepare(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Prepared:
    """Calibrate a graph, with grids and biases that keep its quality.

    Raises:
        StepFailed: there is no data to calibrate on, or the opset is too old.
    """
    given = lifted(model, parameters)
    calibrate = partial(_calibrated, given, parameters, context, advance)
    calibrated = kept_calibration(calibrate, given, parameters, context)
    layers = [site.layer.node for site in calibrated.sites()]
    return Prepared(calibrated.writer(), layers, calibrated.notes)


def _calibrated(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Calibrated:
    """Return the graph calibrated, with notes on all that was done to it."""
    split = _with_own_grids(model, parameters, context)
    calibrated = _calibrate_and_correct(split.model, parameters, context, advance)
    notes = (*_splits(split), *_left_out(model, parameters, context), *calibrated.notes)
    return replace(calibrated, notes=notes)


def samples_to_judge(parameters: Quantize, context: Context) -> Samples | None:
    """Return the training samples that calibration does not look at; None without data."""
    if not context.train:
        return None
    return split_samples(context.train, parameters, context.seed)[1]


def _with_own_grids(model: ir.Model, parameters: Quantize, context: Context) -> Split:
    """Split convolutions at the end whose channels differ in range, unless it is switched off."""
    if not parameters.own_grids or not context.train:
        return Split(model, [])
    samples = few_samples(model, parameters, context)
    return with_own_grids(model, parameters, samples, context.threads)


def _splits(split: Split) -> list[str]:
    """Say which convolutions were split."""
    if not split.nodes:
        return []
    names = ", ".join(split.nodes)
    return [f"Split, so that channels of unlike range have grids of their own: {names}."]


def _left_out(model: ir.Model, parameters: Quantize, context: Context) -> list[str]:
    """Say how many samples calibration looked at, where it had no time for all."""
    if not context.train or parameters.activations == "none":
        return []
    drawn, _ = split_samples(context.train, parameters, context.seed)
    count = len(calibrating(model, parameters, context))
    if count == len(drawn):
        return []
    return [f"Calibration looked at {count} of {len(drawn)} samples: all would take too long."]


def _calibrate_and_correct(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Calibrated:
    """Calibrate as ``calibrate_best`` does, and correct biases before the last choice.

    What brings outputs nearer without the correction may keep them farther away with it. Last the
    rounding of weights is learned.
    """
    compared = finalists(variants(model, parameters, context, advance))
    corrected = [with_corrected_biases(each, context) for each in compared]
    best = chosen(measured(model, corrected, context, lambda _: None))
    return with_learned_rounding(best, context)
