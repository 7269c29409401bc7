"""Which of several graphs answers most like the graph in float: measured, on training samples."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from workers.compression.context import Context, Samples
from workers.compression.graph import stats
from workers.compression.graph.load import save
from workers.compression.graph.shapes import sizes_of
from workers.compression.measure.evaluation import compare, judged_output

_WORK = 2e11
"""Multiply-accumulates that one comparison may take, within the number of samples below."""
_FEWEST, _MOST = 4, 32


def affordable(model: ir.Model, samples: Samples, work: float, fewest: int, most: int) -> int:
    """Return how many samples may be run for so many multiply-accumulates, within two bounds."""
    sizes = sizes_of(model, next(samples.batches(1))[0])
    macs = max(stats.measure(model, sizes).macs, 1)
    return int(np.clip(work / macs, fewest, most))


def nearness(
    model: ir.Model,
    candidates: Sequence[Callable[[], ir.Model]],
    context: Context,
    advance: Callable[[float], None],
) -> list[float]:
    """Return the signal-to-noise ratio of each graph's outputs, all taken together, in dB.

    Args:
        model: the graph in float, whose outputs are right.
        candidates: each makes a graph with its inputs and outputs.
        context: the data.
        advance: told the fraction done.
    """
    assert context.train is not None, "whoever calibrated had data"
    work = _WORK / (1 + 2 * len(candidates))
    count = affordable(model, context.train, work, _FEWEST, _MOST)
    with tempfile.TemporaryDirectory() as scratch:
        paths = [Path(scratch) / f"{index}.onnx" for index in range(len(candidates) + 1)]
        save(model, paths[0])
        for path, make in zip(paths[1:], candidates, strict=True):
            save(make(), path)
        output = judged_output(paths[0], context.evaluate)
        samples = context.train.draw(count, context.seed + 1)
        (_, *found), _ = compare(paths, samples, context.threads, None, output, advance)
    ratios = [closeness.sqnr_db if closeness is not None else None for _, closeness in found]
    return [np.inf if ratio is None else ratio for ratio in ratios]
