"""Measures, on training samples, how close a graph's outputs are to those of the float graph."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx_ir as ir

from app.domain.steps import Quantize
from workers.compression.graph import runtime
from workers.compression.measure.affordable import affordable
from workers.compression.measure.reference import Reference
from workers.compression.samples.context import Context, Samples

_WORK = 2e10
"""Multiply-accumulates that the float graph may take in one comparison, which takes twice as
many in total."""
_FEWEST, _MOST = 4, 128
"""The least and the greatest number of samples in a comparison, whatever its work."""

_ENOUGH = 16
"""The number of samples that comparisons get, of few: as many as they leave to calibration."""

_NEARER = 0.1
"""The improvement in dB of the outputs for which a graph is corrected."""
_FEWEST_CORRECTED = 8
"""The least number of samples that a correction looks at."""

_CALIBRATED = 2e11
"""Multiply-accumulates of one pass over the calibration samples."""
_FEWEST_CALIBRATED = 32
"""The least number of calibration samples, whatever their work, where there are so many."""


def calibrating(model: ir.Model, parameters: Quantize, context: Context) -> Samples:
    """Return the samples of the training split that calibration runs on, in random order.

    They are as many as the parameters say, but no more than a pass has time for.
    """
    assert context.train is not None, "whoever calibrates has data"
    drawn, _ = split_samples(context.train, parameters, context.seed)
    fewest = min(_FEWEST_CALIBRATED, len(drawn))
    count = affordable(model, drawn, _CALIBRATED, fewest, len(drawn))
    return drawn.take(drawn.indices[:count])


def few_samples(model: ir.Model, parameters: Quantize, context: Context) -> Samples:
    """Return the calibration samples that there is time to look at once more, for corrections."""
    samples = calibrating(model, parameters, context)
    count = affordable(model, samples, _WORK, _FEWEST_CORRECTED, len(samples))
    return samples.take(samples.indices[:count])


def split_samples(samples: Samples, parameters: Quantize, seed: int) -> tuple[Samples, Samples]:
    """Return samples for calibration, and other samples for comparing graphs.

    Calibration samples are never clipped, so a comparison on them would be biased. If there is
    nothing to compare, or there are too few samples, both results are the same.
    """
    half = len(samples) // 2
    corrects = parameters.mode in ("auto", "static") and parameters.correct_bias is None
    fixed = (
        None not in (parameters.smooth, parameters.equalize)
        and not corrects
        and (parameters.learn_rounding is not None or not parameters.may_learn_rounding)
        and len(parameters.range_rules) == 1
    )
    judging_count = 0 if fixed else min(_MOST, max(len(samples) // 4, min(_ENOUGH, half)))
    calibration = samples.draw(
        min(parameters.calibration_samples, len(samples) - judging_count), seed
    )
    calibration_rows = set(calibration.indices)
    judging_rows = [row for row in samples.indices if row not in calibration_rows]
    return calibration, samples.take(judging_rows) if judging_rows else calibration


def output_sqnr(
    model: ir.Model, candidates: Iterable[ir.Model], parameters: Quantize, context: Context
) -> list[float]:
    """Return the signal-to-noise ratio of each graph's outputs in dB.

    It is 10·log10 of variance over error power. Both are taken for each channel of each output; see
    ``Fidelity.explained``.

    Args:
        model: the graph in float, whose outputs are the reference.
        candidates: graphs with the same inputs and outputs, taken one by one. A graph that does not
            run gets minus infinity.
        parameters: the parameters of the calibration, whose samples are not used here.
        context: the data.
    """
    assert context.train is not None, "whoever calibrated had data"
    _, judging = split_samples(context.train, parameters, context.seed)
    samples = judging.draw(affordable(model, judging, _WORK, _FEWEST, _MOST), context.seed)
    ratios = []
    with runtime.in_file(model) as path:
        reference = Reference(path, samples, context.threads)
    for candidate in candidates:
        with runtime.in_file(candidate) as path:
            ratios.append(_ratio(reference, path))
    return ratios


def is_nearer(before: float, after: float) -> bool:
    """Return whether a correction is worth keeping, by the outputs' ratios without and with it.

    It is not where both are infinite: both graphs are exact, or neither runs.
    """
    return after - before >= _NEARER


def went(before: float, after: float) -> str:
    """Say how a change moved the ratio of the outputs, in dB, as the end of a sentence."""
    return (
        f"the outputs' signal-to-noise ratio went from {before:.1f} to {after:.1f} dB on training"
        " samples."
    )


def _ratio(reference: Reference, path: Path) -> float:
    try:
        unexplained = 1 - reference.explained(path)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (onnxruntime has one class for each status code)
        return -np.inf
    return -10 * float(np.log10(unexplained)) if unexplained > 0 else np.inf
