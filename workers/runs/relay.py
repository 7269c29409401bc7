"""Pass on what the engine tells: progress and words to the job's row, finished steps to storage.

The engine may write as fast as it likes; the store is written to twice a second at most, with the
latest progress and a bounded number of words.
"""

import time
from collections.abc import Callable, Sequence

from app.domain.events import Log, MetricValue, Progress, StepFinished
from workers.runs import answers
from workers.sandbox.directories import Place

Telling = Progress | MetricValue | Log

_FLUSH_SECONDS = 0.5
_PROGRESS_STEP = 0.01
_PROGRESS_SECONDS = 10.0
"""Progress is told when it has grown by a hundredth, or after this time."""
_MAX_WORDS = 5000
"""Metrics and log lines of one run; what comes after them is not stored."""


class Relay:
    """Called in the engine's loop: reads what is new, and passes it on.

    Args:
        place: where the engine runs.
        tell: stores progress, metrics and log lines.
        keep: stores a finished step: its index, from 0.
    """

    def __init__(
        self,
        place: Place,
        tell: Callable[[Sequence[Telling]], None],
        keep: Callable[[int], None],
    ) -> None:
        self._events = answers.Events(place)
        self._tell = tell
        self._keep = keep
        self._words: list[MetricValue | Log] = []
        self._words_left = _MAX_WORDS
        self._progress: Progress | None = None
        self._told = Progress(progress=0, stage="")
        self._told_at = 0.0
        self._flushed_at = 0.0

    def __call__(self) -> None:
        """Read and pass on, unless it is too early."""
        steps = []
        for event in self._events.new():
            if isinstance(event, StepFinished):
                steps.append(event.index)
            elif isinstance(event, Progress):
                self._progress = event
            elif self._words_left > 0:
                self._words_left -= 1
                self._words.append(event)
        if steps:
            self.flush()
        for index in steps:
            self._keep(index)
        if time.monotonic() - self._flushed_at >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Pass on what is there."""
        telling: list[Telling] = [*self._words]
        if self._progress is not None and self._worth_telling(self._progress):
            telling.append(self._progress)
            self._told, self._told_at = self._progress, time.monotonic()
            self._progress = None
        if telling:
            self._tell(telling)
            self._flushed_at = time.monotonic()
        self._words = []

    def _worth_telling(self, progress: Progress) -> bool:
        return (
            progress.stage != self._told.stage
            or progress.progress - self._told.progress >= _PROGRESS_STEP
            or time.monotonic() - self._told_at >= _PROGRESS_SECONDS
        )
