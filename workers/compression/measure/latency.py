"""How long one sample takes, of several graphs by turns, and how sure their ratio is."""

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
"""Of timed runs until a machine counts as too busy, all graphs together."""
_CHOOSING = 0.5
"""The same where a step chooses, which takes many comparisons."""
_BRIEFLY = 0.25
"""Seconds of timed runs that are taken in any case, so that a short disturbance does not fill all
of them."""
_WARM_UP = 3
_MOST = 4000
"""Rounds."""
_FURTHER = 1.2
"""So many times more rounds are run before their interval is looked at again."""
_LONGEST_PAUSE = 0.02
"""Seconds."""
_MOST_ALONE = 60.0
"""Seconds that the fewest rounds with one thread may take, or they are left out."""
_UNDISTURBED = 0.25
"""Share of the rounds that must remain where those with a graph that was held up are left out."""


@dataclass(frozen=True)
class Turns:
    """What rounds gave in which each graph ran once.

    Attributes:
        seconds: ``[graphs, rounds]``.
        ratio: of the first graph's time to the last one's.
        left_out: rounds that do not count, since the process was held up in them.
    """

    seconds: NDArray[np.float64]
    ratio: Ratio
    left_out: int

    def spread(self, graph: int, samples: int) -> Spread:
        """Return the spread of a graph's times, in milliseconds per sample."""
        each = self.seconds[graph] * 1000 / samples
        low, middle, high = (round(float(q), 4) for q in np.quantile(each, (0.1, 0.5, 0.9)))
        return Spread(median=middle, p10=low, p90=high, runs=len(each))


def by_turns(
    timers: Sequence[Timer], seconds: float = SECONDS, pause: Callable[[float], None] = time.sleep
) -> Turns:
    """Run graphs in rounds until the ratio of the first to the last is certain.

    The order of a round alternates. After a round in which the process was held up it pauses for
    about as long as a run, at random, lest rounds keep step with the time slices of others.

    Args:
        timers: each runs a graph once; they are warmed up here.
        seconds: to go on for where the ratio does not become certain. ``FEWEST`` rounds are run in
            any case.
        pause: sleeps for some seconds.
    """
    random = np.random.default_rng(0)
    for once in [*timers] * _WARM_UP:
        once()
    rounds: list[list[Run]] = []
    spent, look = 0.0, FEWEST
    while True:
        rounds.append(_round(timers, forward=len(rounds) % 2 == 0))
        took = sum(run.passed for run in rounds[-1])
        spent += took
        if any(run.held_up for run in rounds[-1]):
            pause(min(took / len(timers), _LONGEST_PAUSE) * random.uniform(0.5, 1.5))
        over = spent >= seconds or len(rounds) >= _MOST
        if len(rounds) < (FEWEST if over else look):
            continue
        turns = _count(rounds)
        if over or (turns.ratio.certain and spent >= _BRIEFLY):
            return turns
        look = int(len(rounds) * _FURTHER) + 1


def _round(timers: Sequence[Timer], *, forward: bool) -> list[Run]:
    """Run each graph once, from the first to the last or back; return the runs as they stand."""
    runs = [once() for once in (timers if forward else reversed(timers))]
    return runs if forward else runs[::-1]


def _count(rounds: Sequence[Sequence[Run]]) -> Turns:
    """Return what rounds come to; where hardly one is undisturbed, all of them count."""
    kept = [runs for runs in rounds if not any(run.held_up for run in runs)]
    if len(kept) >= max(FEWEST, _UNDISTURBED * len(rounds)):
        seconds = np.array([[run.passed for run in runs] for runs in kept]).T
    else:
        kept, seconds = [*rounds], np.array([[run.computed for run in r] for r in rounds]).T
    seconds = np.maximum(seconds, 1e-9)
    return Turns(seconds, paired(seconds[0], seconds[-1]), len(rounds) - len(kept))


def measure(paths: Sequence[Path], samples: Samples, threads: int) -> tuple[list[Spread], Latency]:
    """Time one sample of several graphs, by turns in one process.

    Whatever else the machine does so strikes all of them alike. The graphs are loaded as a user
    would, and run with the threads that serve; then the first and the last one with one thread,
    where that takes bounded time.

    Args:
        paths: of the graphs.
        samples: the first one is run.
        threads: that serve.

    Returns:
        The spread of each graph's times, and the first beside the last.
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


def beside(one: ir.Model, other: ir.Model, feeds: Feeds, threads: int) -> Ratio:
    """Return how many times longer a graph takes than another one of the same inputs."""
    sessions = [runtime.session_of(each, optimize=True, threads=threads) for each in (one, other)]
    return by_turns([clock.timer(each, feeds, threads) for each in sessions], _CHOOSING).ratio


def saved(one: ir.Model, other: ir.Model, feeds: Feeds, threads: int) -> float:
    """Return the share of a graph's time that another one of the same inputs saves."""
    sessions = [runtime.session_of(each, optimize=True, threads=threads) for each in (one, other)]
    turns = by_turns([clock.timer(each, feeds, threads) for each in sessions], SECONDS / 4)
    return 1 - 1 / turns.ratio.value


def _timers(paths: Sequence[Path], samples: Samples, threads: int) -> tuple[list[Timer], int]:
    """Load graphs of the same inputs; return what times each, and how many samples a run takes."""
    sessions = [target.open_session(path, threads) for path in paths]
    feeds = samples.first_run()
    timers = [clock.timer(session, feeds, threads) for session in sessions]
    return timers, samples.layout.size


def _comparison(turns: Turns, samples: int) -> Comparison:
    """Put what rounds gave into the words of the report; a run takes so many samples."""
    return Comparison(
        original=turns.spread(0, samples),
        compressed=turns.spread(-1, samples),
        speedup=round(turns.ratio.value, 3),
        speedup_low=round(turns.ratio.low, 3),
        speedup_high=round(turns.ratio.high, 3),
        certain=turns.ratio.certain,
        left_out=turns.left_out,
    )
