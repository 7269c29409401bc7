"""Which of several graphs answers most like the graph in float: measured, on training samples."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx_ir as ir

from app.domain.steps import Quantize
from workers.compression.graph import runtime, stats
from workers.compression.graph.shapes import sizes_of
from workers.compression.measure.evaluation import outputs_explained
from workers.compression.samples.context import Context, Samples

_WORK = 2e10
"""Multiply-accumulates of the graph in float that one comparison counts on, within the number of
samples below; it takes twice as many."""
_FEWEST, _MOST = 4, 128


def affordable(model: ir.Model, samples: Samples, work: float, fewest: int, most: int) -> int:
    """Return how many samples may be run for so many multiply-accumulates, within two bounds."""
    sizes = sizes_of(model, samples.first_run())
    macs = max(stats.measure(model, sizes, samples=samples.layout.size).macs, 1)
    return int(np.clip(work / macs, fewest, most))


def parted(samples: Samples, parameters: Quantize, seed: int) -> tuple[Samples, Samples]:
    """Return samples to calibrate on, and others to judge on: what was seen is never clipped.

    Where there is nothing to choose, or hardly a sample, both are the same.
    """
    settled = parameters.smooth is not None and len(parameters.range_rules) == 1
    kept = 0 if settled else min(_MOST, len(samples) // 4)
    seen = samples.draw(min(parameters.calibration_samples, len(samples) - kept), seed)
    taken = set(seen.indices)
    others = [row for row in samples.indices if row not in taken]
    return seen, samples.take(others) if others else seen


def nearness(
    model: ir.Model, candidates: Iterable[ir.Model], parameters: Quantize, context: Context
) -> list[float]:
    """Return how near each graph's outputs are, in dB: 10·log10 of variance over error power.

    Both of each channel of each output in its own units; see ``Fidelity.explained``.

    Args:
        model: the graph in float, whose outputs are right.
        candidates: graphs with its inputs and outputs, taken one by one. What does not run is as
            far away as can be.
        parameters: what calibration looked at.
        context: the data.
    """
    assert context.train is not None, "whoever calibrated had data"
    _, others = parted(context.train, parameters, context.seed)
    samples = others.draw(affordable(model, others, _WORK, _FEWEST, _MOST), context.seed)
    ratios = []
    with runtime.in_file(model) as reference:
        for candidate in candidates:
            with runtime.in_file(candidate) as path:
                ratios.append(_ratio(reference, path, samples, context.threads))
    return ratios


def _ratio(reference: Path, path: Path, samples: Samples, threads: int) -> float:
    try:
        lost = 1 - outputs_explained(reference, path, samples, threads)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (onnxruntime has one class for each status code)
        return -np.inf
    return -10 * float(np.log10(lost)) if lost > 0 else np.inf
