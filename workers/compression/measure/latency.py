"""How long one sample takes, of several graphs by turns."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from app.domain.reports import Spread
from workers.compression.graph.load import save
from workers.compression.samples.context import Feeds, Samples
from workers.compression.targets import onnx as target

_WARM_UP = 3
_SECONDS = 4.0
"""Of timed runs, all graphs together."""
_LEAST, _MOST = 5, 200
"""Timed runs of each graph."""
_FEWEST, _ENOUGH, _BRIEFLY = 3, 30, 0.004
"""Runs of a graph by itself, and seconds that are enough for it."""


def interleaved(paths: Sequence[Path], samples: Samples, threads: int) -> list[Spread]:
    """Time runs of one sample, the graphs taking turns in one process.

    Whatever else the machine does so strikes all of them alike. The graphs are loaded as a user
    would, with the same number of threads; each is warmed up; the order of a round alternates.

    Args:
        paths: of the graphs.
        samples: the first one is run.
        threads: for computing.

    Returns:
        The spread of each graph's times, in milliseconds per sample.
    """
    sessions = [target.open_session(path, threads) for path in paths]
    feeds = [target.one_sample(session, samples) for session in sessions]
    batches = [target.batch_size(session, samples) for session in sessions]
    order = list(range(len(sessions)))
    warm = sum(_time(sessions[i], feeds[i]) for _ in range(_WARM_UP) for i in order) / _WARM_UP
    rounds = int(np.clip(_SECONDS / max(warm, 1e-6), _LEAST, _MOST))
    times: list[list[float]] = [[] for _ in sessions]
    for turn in range(rounds):
        for i in order if turn % 2 == 0 else reversed(order):
            times[i].append(_time(sessions[i], feeds[i]) * 1000 / batches[i])
    return [_spread(each) for each in times]


def of_two(one: ir.Model, other: ir.Model, feeds: Feeds, threads: int) -> tuple[float, float]:
    """Return the median milliseconds of two graphs that take the same feeds, run by turns."""
    sample = Samples({name: array[None] for name, array in feeds.items()}, None, [0], whole=True)
    with tempfile.TemporaryDirectory() as scratch:
        paths = [Path(scratch) / "one.onnx", Path(scratch) / "other.onnx"]
        for each, path in zip((one, other), paths, strict=True):
            save(each, path)
        first, second = interleaved(paths, sample, threads)
    return max(first.median, 1e-9), second.median


def of_one(model: ir.Model, feeds: Feeds, threads: int) -> float:
    """Return the milliseconds of the shortest of some runs: what disturbs only adds."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "one.onnx"
        save(model, path)
        session = target.open_session(path, threads)
    _time(session, feeds)
    best, spent, runs = np.inf, 0.0, 0
    while runs < _FEWEST or (spent < _BRIEFLY and runs < _ENOUGH):
        took = _time(session, feeds)
        best, spent, runs = min(best, took), spent + took, runs + 1
    return float(best) * 1000


def _time(session: ort.InferenceSession, feeds: Feeds) -> float:
    start = time.perf_counter()
    target.run(session, None, feeds)
    return time.perf_counter() - start


def _spread(times: list[float]) -> Spread:
    low, middle, high = (round(float(q), 4) for q in np.quantile(times, (0.1, 0.5, 0.9)))
    return Spread(median=middle, p10=low, p90=high, runs=len(times))
