"""Leaves layers in float until the loss of quality that a job allows is kept.

Judged on training samples: the held-out ones are for the verdict alone.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from workers.compression.graph.load import load, save
from workers.compression.measure import quality
from workers.compression.measure.evaluation import compare, outputs_explained
from workers.compression.measure.verdict import fall
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.nearest import affordable
from workers.compression.samples.context import Context, Samples

_SHARE = 0.8
"""Share of the allowed drop that training samples may show: held-out ones may show more."""

_WORK = 1e12
"""Multiply-accumulates that one judgement may take, within the number of samples below."""
_FEWEST, _MOST = 16, 512

_FLOAT = "float.onnx"

_RANKED = 8
"""Samples that layers are ranked on."""
_GROUPS = 100
"""Portions of neighbouring layers, at most, that are ranked."""

Write = Callable[[Mapping[str, str]], Outcome]
"""Quantizes all layers but those that are named, each with a reason."""


def within(
    write: Write,
    model: ir.Model,
    layers: Sequence[str],
    context: Context,
    advance: Callable[[float], None],
    judged: Samples | None = None,
) -> Outcome:
    """Quantize as many layers as the job's bound of the loss of quality allows.

    Layers are ranked by what the outputs keep of their variance when they alone are quantized; the
    fewest of the worst ones that keep the bound stay in float. Without a bound, without data, or
    where the graph has lost too much before, all are quantized.

    Args:
        write: quantizes a copy of ``model``.
        model: the graph in float; not changed.
        layers: names of the nodes that can be quantized.
        context: the bound, the data and the original.
        advance: called with the fraction done.
        judged: samples to judge on, of the training split; None takes all of it.
    """
    whole = write({})
    samples = judged or context.train
    if context.max_quality_drop is None or not whole.layers or samples is None or not len(samples):
        return whole
    allowed = context.max_quality_drop * _SHARE
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        save(model, directory / _FLOAT)
        count = affordable(model, samples, _WORK, _FEWEST, _MOST)
        drawn = samples.draw(count, context.seed)
        lost = partial(_drop, context=context, directory=directory, samples=drawn)
        if lost(whole.model) <= allowed or lost(model) > allowed:
            return whole
        few = samples.draw(_RANKED, context.seed)
        ranked = _ranked(write, layers, context, few, directory, advance)
        return _fewest(write, ranked, context.max_quality_drop, lambda o: lost(o.model) <= allowed)


def _drop(model: ir.Model, context: Context, directory: Path, samples: Samples) -> float:
    """Return by how much a graph's quality is below the original's, as the verdict counts it."""
    path = directory / "candidate.onnx"
    save(model, path)
    original = context.original or directory / _FLOAT
    graph = load(original)
    output = quality.judged_output(graph, context.evaluate)
    threads = context.threads
    judge = quality.judge(graph, samples.targets, context.evaluate, context.metric, threads)
    before, after = compare([original, path], samples, threads, judge, output, _nobody)
    return fall(before[0], after[0], after[1])


def _ranked(
    write: Write,
    layers: Sequence[str],
    context: Context,
    samples: Samples,
    directory: Path,
    advance: Callable[[float], None],
) -> list[tuple[float, list[str]]]:
    """Return portions of layers, worst first, with the share of the variance that each leaves."""
    portions = [list(part) for part in np.array_split(layers, min(len(layers), _GROUPS))]
    reference, path = directory / _FLOAT, directory / "candidate.onnx"
    found = list[tuple[float, list[str]]]()
    for done, portion in enumerate(portions):
        save(write({name: "" for name in layers if name not in portion}).model, path)
        found.append((outputs_explained(reference, path, samples, context.threads), portion))
        advance((done + 1) / len(portions))
    return sorted(found, key=lambda each: each[0])


def _fewest(
    write: Write,
    ranked: Sequence[tuple[float, list[str]]],
    allowed: float,
    fits: Callable[[Outcome], bool],
) -> Outcome:
    """Return the outcome with the fewest of the worst layers in float that fits: by bisection."""

    def without(count: int) -> Outcome:
        return write(
            {
                name: f"left in float to keep the drop within {allowed:g}: quantized alone, it"
                f" leaves {kept:.2%} of the outputs' variance"
                for kept, portion in ranked[:count]
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


def _nobody(_fraction: float) -> None:
    """Tell nobody."""
