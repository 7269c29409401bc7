"""Excludes layers from quantization until the graph meets the job's bound of the loss of quality.

Quality is measured on training samples: the held-out samples are for the verdict only.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from app.domain.reports import quality_drop
from workers.compression.graph.load import load, save
from workers.compression.measure import quality
from workers.compression.measure.evaluation import compare, outputs_explained
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.comparison import affordable
from workers.compression.methods.quantize.exclusions import Write
from workers.compression.samples.context import Context, Samples

_SHARE = 0.8
"""The share of the allowed drop that is used on training samples: held-out ones may drop more."""

_WORK = 1e12
"""Multiply-accumulates that one measurement of quality may take."""
_FEWEST, _MOST = 16, 512
"""The least and the greatest number of samples in a measurement, whatever its work."""

_FLOAT = "float.onnx"

_RANKED = 8
"""The number of samples that layers are ranked on."""
_GROUPS = 100
"""The greatest number of portions of neighbouring layers that are ranked."""


def quantize_within_bound(
    write: Write,
    model: ir.Model,
    layers: Sequence[str],
    context: Context,
    advance: Callable[[float], None],
    judging_samples: Samples | None = None,
) -> Outcome:
    """Quantize as many layers as the job's bound of the loss of quality allows.

    Layers are ranked by the share of the outputs' variance that is kept when they alone are
    quantized. As few as possible of the worst layers are excluded. All layers are quantized if
    there is no bound or no data, or if the graph exceeded the bound before.

    Args:
        write: quantizes a copy of ``model``.
        model: the graph in float; not changed.
        layers: names of the nodes that can be quantized.
        context: the bound, the data and the original.
        advance: called with the fraction done.
        judging_samples: the samples that quality is measured on; None takes the training split.
    """
    quantized = write({})
    samples = judging_samples or context.train
    if (
        context.max_quality_drop is None
        or not quantized.layers
        or samples is None
        or not len(samples)
    ):
        return quantized
    allowed = context.max_quality_drop * _SHARE
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        save(model, directory / _FLOAT)
        count = affordable(model, samples, _WORK, _FEWEST, _MOST)
        drawn_samples = samples.draw(count, context.seed)
        drop = partial(_drop, context=context, directory=directory, samples=drawn_samples)
        if drop(quantized.model) <= allowed or drop(model) > allowed:
            return quantized
        ranking_samples = samples.draw(_RANKED, context.seed)
        ranked = _ranked(write, layers, context, ranking_samples, directory, advance)
        return _fewest(write, ranked, context.max_quality_drop, lambda o: drop(o.model) <= allowed)


def _drop(model: ir.Model, context: Context, directory: Path, samples: Samples) -> float:
    """Return the drop of a graph's quality below the original's, as the verdict measures it."""
    path = directory / "candidate.onnx"
    save(model, path)
    original = context.original or directory / _FLOAT
    graph = load(original)
    output = quality.judged_output(graph, context.evaluate)
    threads = context.threads
    judge = quality.judge(graph, samples.targets, context.evaluate, context.metric, threads)
    original_figures, candidate_figures = compare(
        [original, path], samples, threads, judge, output, _no_progress
    )
    return quality_drop(original_figures[0], candidate_figures[0], candidate_figures[1])


def _ranked(
    write: Write,
    layers: Sequence[str],
    context: Context,
    samples: Samples,
    directory: Path,
    advance: Callable[[float], None],
) -> list[tuple[float, list[str]]]:
    """Return portions of layers with the share of the variance that is kept, worst first."""
    portions = [list(part) for part in np.array_split(layers, min(len(layers), _GROUPS))]
    reference, path = directory / _FLOAT, directory / "candidate.onnx"
    ranked = list[tuple[float, list[str]]]()
    for done, portion in enumerate(portions):
        save(write({name: "" for name in layers if name not in portion}).model, path)
        ranked.append((outputs_explained(reference, path, samples, context.threads), portion))
        advance((done + 1) / len(portions))
    return sorted(ranked, key=lambda item: item[0])


def _fewest(
    write: Write,
    ranked: Sequence[tuple[float, list[str]]],
    allowed: float,
    fits: Callable[[Outcome], bool],
) -> Outcome:
    """Find, by bisection, the fewest of the worst layers to exclude so that the outcome fits."""

    def without(count: int) -> Outcome:
        return write(
            {
                name: f"left in float to keep the drop within {allowed:g}: quantized alone, it"
                f" leaves {explained:.2%} of the outputs' variance"
                for explained, portion in ranked[:count]
                for name in portion
            }
        )

    low, high = 0, len(ranked)  # with all of them in float, nothing is lost
    best, step = without(high), 1
    while high - low > 1:
        middle = min(low + step, (low + high) // 2) if high == len(ranked) else (low + high) // 2
        outcome = without(middle)
        if fits(outcome):
            best, high = outcome, middle
        else:
            low, step = middle, step * 2
    return best


def _no_progress(_fraction: float) -> None:
    """Ignore the progress."""
