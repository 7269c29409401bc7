"""What the log of a run says while the engine says nothing: that it goes on, and how fast.

A part of a step may take minutes in which nothing is worth a line. Whoever watches is told once a
minute where the run is; and, by the pace that was measured, when it takes longer than it began.
"""

import time
from collections.abc import Callable

from app.domain.events import Log, MetricValue, Progress
from app.domain.percentages import percent

_SILENT_SECONDS = 60.0
_SLOWER = 1.25
"""How many times longer than at first a run is expected to take, before that is said."""


class Waiting:
    """Hears what a run tells, and finds words where it tells nothing.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._told_at = self._stage_began = clock()
        self._progress = Progress(progress=0, stage="")
        self._left_at = self._began
        self._at_first: float | None = None

    def hear(self, event: Progress | MetricValue | Log) -> None:
        """Take note of an event of the engine."""
        now = self._clock()
        if isinstance(event, MetricValue):
            return
        if isinstance(event, Log):
            self._told_at = now
            return
        if event.stage != self._progress.stage:
            self._told_at = self._stage_began = now
        if event.eta_seconds is not None:
            self._left_at = now
            if self._at_first is None:
                self._at_first = now - self._began + event.eta_seconds
        self._progress = event

    def words(self) -> Log | None:
        """Return what to say now; None unless nothing was said for a minute."""
        now = self._clock()
        if now - self._told_at < _SILENT_SECONDS or not self._progress.stage:
            return None
        self._told_at = now
        here = _spoken(now - self._stage_began)
        done = f"{percent(self._progress.progress)} of the job is done"
        return Log(message=f"Still at it for {here}: {done}{self._pace(now)}.")

    def _pace(self, now: float) -> str:
        left = self._progress.eta_seconds
        if left is None or self._at_first is None:
            return ""
        whole = max(self._left_at + left, now) - self._began
        if whole < _SLOWER * self._at_first:
            return ""
        return (
            f". It goes slower than it began, as on a busy machine: about {_spoken(whole)} in all,"
            f" at first {_spoken(self._at_first)}"
        )


def _spoken(seconds: float) -> str:
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
