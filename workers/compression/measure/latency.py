"""Latency: the time of one sample, of several graphs in turn, and how certain their ratio is."""

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
import onnxruntime as ort

from app.domain.latencies import Credited, Latency, RunInput, Spread, TimedRun
from workers.compression.graph import runtime
from workers.compression.measure import clock
from workers.compression.measure.ratio import FEWEST, Ratio
from workers.compression.measure.turns import SECONDS, Timer, Turns, by_turns, comparison
from workers.compression.samples.context import Feeds, Samples
from workers.compression.targets import onnx as target

_CHOOSING = 0.5
"""Seconds of timed runs for the comparisons of a step that chooses, which are many."""
_MOST_ALONE = 60.0
"""If the fewest rounds with one thread take more seconds than this, they are left out."""


def measure(
    paths: Sequence[Path], samples: Samples, threads: int, tidied: Path | None = None
) -> tuple[list[Spread], Latency]:
    """Time one sample of several graphs, by turns in one process.

    So other work on the machine disturbs all of them alike. The graphs are loaded as a user would
    load them, and run with the threads that serving uses. Then the first and the last one are run
    with one thread, where that takes bounded time. The tidied one runs in all rounds.

    Args:
        paths: the files of the graphs.
        samples: the first one is run.
        threads: number of threads that serving uses.
        tidied: the first graph after it was tidied; None where that makes no difference.

    Returns:
        The spread of each graph's times, and the comparison of the first with the last.
    """
    first, *others = paths
    beside = [] if tidied is None else [tidied]
    timers, count = _timers([first, *beside, *others], samples, threads)
    turns = by_turns(timers)
    alone = None
    if threads > 1 and turns.seconds.max(1).sum() * threads * FEWEST < _MOST_ALONE:
        both, _ = _timers([first, *beside, paths[-1]], samples, threads=1)
        alone = _credited(by_turns(both, SECONDS / 2), count, tidied)
    spreads = [turns.spread(index, count) for index in range(len(timers))]
    del spreads[1 : 1 + len(beside)]
    served = _credited(turns, count, tidied)
    return spreads, Latency(**dict(served), one_thread=alone)


def _credited(turns: Turns, count: int, tidied: Path | None) -> Credited:
    """Return the comparison of the first graph with the last; the tidied one, if any, is second."""
    alike = None if tidied is None else comparison(turns.with_first(1), count)
    return Credited(**dict(comparison(turns, count)), tidied=alike)


def opened(graph: ir.Model | ort.InferenceSession, threads: int) -> ort.InferenceSession:
    """Return a session of a graph as users run it; a session is returned as it is.

    Whoever times a graph beside many others opens it once.
    """
    if isinstance(graph, ort.InferenceSession):
        return graph
    return runtime.session_of(graph, optimize=True, threads=threads)


def time_ratio(
    first: ir.Model | ort.InferenceSession,
    second: ir.Model | ort.InferenceSession,
    feeds: Feeds,
    threads: int,
    seconds: float = _CHOOSING,
) -> Ratio:
    """Return how many times longer one graph takes than another one with the same inputs.

    Args:
        first: a graph, or the session of one.
        second: another one.
        feeds: the inputs of a run.
        threads: number of threads to compute with.
        seconds: the time limit, for a ratio that does not become certain.
    """
    timers = [clock.timer(opened(graph, threads), feeds, threads) for graph in (first, second)]
    return by_turns(timers, seconds).ratio


def time_saved(first: ir.Model, second: ir.Model, feeds: Feeds, threads: int) -> float:
    """Return the share of a graph's time that another one with the same inputs saves."""
    return 1 - 1 / time_ratio(first, second, feeds, threads, SECONDS / 4).value


def _timers(paths: Sequence[Path], samples: Samples, threads: int) -> tuple[list[Timer], int]:
    """Load graphs with the same inputs; return a timer for each, and the samples of a run."""
    sessions = [target.open_session(path, threads) for path in paths]
    feeds = samples.first_run()
    timers = [clock.timer(session, feeds, threads) for session in sessions]
    return timers, samples.layout.size


def timed_run(samples: Samples) -> TimedRun:
    """Return what the first run of samples reads: names, types and sizes, and no values."""
    inputs = []
    for name, array in samples.first_run().items():
        counts = array.dtype.kind in "iu" and array.size and array.min() >= 0
        below = int(array.max()) + 1 if counts else None
        inputs.append(
            RunInput(name=name, dtype=str(array.dtype), shape=[*array.shape], below=below)
        )
    return TimedRun(inputs=inputs, samples=samples.layout.size)
