"""Latency: the time of one sample, of several graphs in turn, and how certain their ratio is."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.reports import Comparison, Latency, Spread
from workers.compression.graph import runtime
from workers.compression.measure import clock
from workers.compression.measure.clock import Run, Timer
from workers.compression.measure.ratio import FEWEST, Ratio, paired
from workers.compression.samples.context import Feeds, Samples
from workers.compression.targets import onnx as target

SECONDS = 12.0
"""Seconds of timed runs, of all graphs together, until the machine counts as too busy."""
_CHOOSING = 0.5
"""The same for the comparisons of a step that chooses, which are many."""
_BRIEFLY = 0.25
"""The least seconds of timed runs, so that a short disturbance does not affect all of them."""
_WARM_UP = 3
_MOST = 4000
"""Rounds."""
_FURTHER = 1.2
"""The factor of rounds after which the interval is computed again."""
_LONGEST_PAUSE = 0.02
"""Seconds."""
_MOST_ALONE = 60.0
"""If the fewest rounds with one thread take more seconds than this, they are left out."""
_UNDISTURBED = 0.25
"""The share of undisturbed rounds that is needed to leave out the others."""


@dataclass(frozen=True)
class Turns:
    """The times of rounds in which each graph ran once.

    Attributes:
        seconds: ``[graphs, rounds]``.
        ratio: of the first graph's time to the last one's.
        left_out: the number of rounds that are not counted because the process was held up.
    """

    seconds: NDArray[np.float64]
    ratio: Ratio
    left_out: int

    def spread(self, graph: int, samples: int) -> Spread:
        """Return the spread of a graph's times, in milliseconds per sample."""
        milliseconds = self.seconds[graph] * 1000 / samples
        low, middle, high = (round(float(q), 4) for q in np.quantile(milliseconds, (0.1, 0.5, 0.9)))
        return Spread(median=middle, p10=low, p90=high, runs=len(milliseconds))


def by_turns(
    timers: Sequence[Timer], seconds: float = SECONDS, pause: Callable[[float], None] = time.sleep
) -> Turns:
    """Run graphs in rounds until the ratio of the first to the last is certain.

    The order of a round alternates. After a round in which the process was held up it pauses for
    about as long as a run, at random, so that rounds do not synchronise with the time slices of
    other processes.

    Args:
        timers: one per graph; each call runs and times the graph once. They are warmed up here.
        seconds: the time limit, for a ratio that does not become certain. ``FEWEST`` rounds are
            run in any case.
        pause: sleeps for a number of seconds.
    """
    random = np.random.default_rng(0)
    for timer in [*timers] * _WARM_UP:
        timer()
    rounds: list[list[Run]] = []
    spent, next_check = 0.0, FEWEST
    while True:
        rounds.append(_round(timers, forward=len(rounds) % 2 == 0))
        took = sum(run.passed for run in rounds[-1])
        spent += took
        if any(run.held_up for run in rounds[-1]):
            pause(min(took / len(timers), _LONGEST_PAUSE) * random.uniform(0.5, 1.5))
        over = spent >= seconds or len(rounds) >= _MOST
        if len(rounds) < (FEWEST if over else next_check):
            continue
        turns = _count(rounds)
        if over or (turns.ratio.certain and spent >= _BRIEFLY):
            return turns
        next_check = int(len(rounds) * _FURTHER) + 1


def _round(timers: Sequence[Timer], *, forward: bool) -> list[Run]:
    """Run each graph once, in order or in reverse; return the runs in the order of the graphs."""
    runs = [timer() for timer in (timers if forward else reversed(timers))]
    return runs if forward else runs[::-1]


def _count(rounds: Sequence[Sequence[Run]]) -> Turns:
    """Return the times of undisturbed rounds; where there are hardly any, those of all rounds."""
    undisturbed = [runs for runs in rounds if not any(run.held_up for run in runs)]
    if len(undisturbed) >= max(FEWEST, _UNDISTURBED * len(rounds)):
        seconds = np.array([[run.passed for run in runs] for runs in undisturbed]).T
    else:
        undisturbed, seconds = [*rounds], np.array([[run.computed for run in r] for r in rounds]).T
    seconds = np.maximum(seconds, 1e-9)
    return Turns(seconds, paired(seconds[0], seconds[-1]), len(rounds) - len(undisturbed))


def measure(paths: Sequence[Path], samples: Samples, threads: int) -> tuple[list[Spread], Latency]:
    """Time one sample of several graphs, by turns in one process.

    So other work on the machine disturbs all of them alike. The graphs are loaded as a user would
    load them, and run with the threads that serving uses. Then the first and the last one are run
    with one thread, where that takes bounded time.

    Args:
        paths: the files of the graphs.
        samples: the first one is run.
        threads: number of threads that serving uses.

    Returns:
        The spread of each graph's times, and the comparison of the first with the last.
    """
    timers, count = _timers(paths, samples, threads)
    turns = by_turns(timers)
    alone = None
    if threads > 1 and turns.seconds.max(1).sum() * threads * FEWEST < _MOST_ALONE:
        both, _ = _timers([paths[0], paths[-1]], samples, threads=1)
        alone = _comparison(by_turns(both, SECONDS / 2), count)
    served = _comparison(turns, count)
    spreads = [turns.spread(index, count) for index in range(len(paths))]
    return spreads, Latency(**dict(served), one_thread=alone)


def time_ratio(first: ir.Model, second: ir.Model, feeds: Feeds, threads: int) -> Ratio:
    """Return how many times longer one graph takes than another one with the same inputs."""
    sessions = [
        runtime.session_of(graph, optimize=True, threads=threads) for graph in (first, second)
    ]
    return by_turns([clock.timer(graph, feeds, threads) for graph in sessions], _CHOOSING).ratio


def time_saved(first: ir.Model, second: ir.Model, feeds: Feeds, threads: int) -> float:
    """Return the share of a graph's time that another one with the same inputs saves."""
    sessions = [
        runtime.session_of(graph, optimize=True, threads=threads) for graph in (first, second)
    ]
    turns = by_turns([clock.timer(graph, feeds, threads) for graph in sessions], SECONDS / 4)
    return 1 - 1 / turns.ratio.value


def _timers(paths: Sequence[Path], samples: Samples, threads: int) -> tuple[list[Timer], int]:
    """Load graphs with the same inputs; return a timer for each, and the samples of a run."""
    sessions = [target.open_session(path, threads) for path in paths]
    feeds = samples.first_run()
    timers = [clock.timer(session, feeds, threads) for session in sessions]
    return timers, samples.layout.size


def _comparison(turns: Turns, samples: int) -> Comparison:
    """Return the comparison for the report; a run takes ``samples`` samples."""
    return Comparison(
        original=turns.spread(0, samples),
        compressed=turns.spread(-1, samples),
        speedup=round(turns.ratio.value, 3),
        speedup_low=round(turns.ratio.low, 3),
        speedup_high=round(turns.ratio.high, 3),
        certain=turns.ratio.certain,
        left_out=turns.left_out,
    )
