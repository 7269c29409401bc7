"""What is said of a run while its engine says nothing: that it goes on, how fast, how long still.

A part of a step may take minutes in which nothing is worth a line. Whoever watches is told once a
minute where the run is; and, by the pace that was measured, when it takes longer than it began.
Meanwhile the time that is left counts down.
"""

import time
from collections.abc import Callable

from app.domain.events import Log, MetricValue, Progress
from app.domain.percentages import percent

_SILENT_SECONDS = 60.0
_RENEWED_SECONDS = 30.0
"""How often the time that is left is counted down, where the engine says nothing of it."""
_SLOWER = 1.25
"""How many times longer than at first a run is expected to take, before that is said."""


class Waiting:
    """Hears what a run tells, and finds words where it tells nothing.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._told_at = self._stage_began = self._told_left_at = clock()
        self._progress = Progress(progress=0, stage="")
        self._left_at = self._began
        self._at_first: float | None = None
        self._told_left: float | None = None

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
        self._told_left, self._told_left_at = event.eta_seconds, now
        self._progress = event

    def renewed(self) -> Progress | None:
        """Return the progress with the time that is left by now; None where what was said holds.

        Where the run takes longer than was said, the time is not known.
        """
        now = self._clock()
        if self._told_left is None or now - self._told_left_at < _RENEWED_SECONDS:
            return None
        left = round(self._told_left - (now - self._told_left_at), 1)
        self._told_left, self._told_left_at = (left if left > 0 else None), now
        return self._progress.model_copy(update={"eta_seconds": self._told_left})

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
