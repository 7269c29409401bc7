"""Times by turns, whatever is run: a round runs each once, and rounds go on until it is certain.

On a busy machine a thread waits for its processor now and then. A run of one thread shows this
itself: its CPU time is shorter than its wall time. With more threads that comparison fails, since
threads that wait for each other may spin; there, involuntary context switches show it.

Only numpy is imported here: the agent on a board times with the same code.
"""

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.domain.latencies import Comparison, Spread
from workers.compression.measure.ratio import FEWEST, Ratio, paired

_BUSY = 0.95
"""The least share of wall time that an undisturbed thread spends on the processor."""
SECONDS = 12.0
"""Seconds of timed runs, of all graphs together, until the machine counts as too busy."""
_BRIEFLY = 0.25
"""The least seconds of timed runs, so that a short disturbance does not affect all of them."""
_WARM_UP = 3
_MOST = 4000
"""Rounds."""
_FURTHER = 1.2
"""The factor of rounds after which the interval is computed again."""
_LONGEST_PAUSE = 0.02
"""Seconds."""
_UNDISTURBED = 0.25
"""The share of undisturbed rounds that is needed to leave out the others."""


@dataclass(frozen=True)
class Run:
    """One run of a graph, in seconds."""

    passed: float
    """Wall time."""
    computed: float
    """The estimated time on an idle machine: CPU time with one thread, else wall time."""
    held_up: bool
    """Whether other work took the processor away during the run."""


Timer = Callable[[], Run]
"""Runs a graph once."""


def timed(run: Callable[[], object], threads: int) -> Timer:
    """Return a timer for a call that computes with ``threads`` threads of this process."""
    alone = threads == 1
    who = resource.RUSAGE_THREAD if alone else resource.RUSAGE_SELF

    def once() -> Run:
        switches = resource.getrusage(who).ru_nivcsw
        processor, start = time.thread_time(), time.perf_counter()
        run()
        passed, computed = time.perf_counter() - start, time.thread_time() - processor
        if alone:
            return Run(passed, min(computed, passed), held_up=computed < _BUSY * passed)
        return Run(passed, passed, held_up=resource.getrusage(who).ru_nivcsw > switches)

    return once


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

    def with_first(self, graph: int) -> "Turns":
        """Return the same rounds of the first graph and another one alone."""
        seconds = self.seconds[[0, graph]]
        return Turns(seconds, paired(*seconds), self.left_out)


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


def comparison(turns: Turns, samples: int) -> Comparison:
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
