"""Relays the engine's events: progress and log lines to the job's row, finished steps to storage.

However fast the engine writes, the store is written to at most twice a second, with the latest
progress and a bounded number of metrics and log lines.
"""

import time
from collections.abc import Callable, Sequence

from app.domain.events import Log, MetricValue, Progress, SamplesMade, StepFinished
from workers.runs import answers
from workers.runs.waiting import Waiting
from workers.sandbox.directories import Place

StoredEvent = Progress | MetricValue | Log

_FLUSH_SECONDS = 0.5
_PROGRESS_STEP = 0.01
_PROGRESS_SECONDS = 10.0
"""Progress is stored when it has grown by a hundredth, or after this time."""
_MAX_STORED = 5000
"""The largest number of stored metrics and log lines of one run; later ones are dropped."""


class Relay:
    """Called while the engine runs: reads new events and passes them on.

    Args:
        place: the directories of the run.
        store: stores progress, metrics and log lines.
        keep: stores the finished step with an index, from 0.
        keep_samples: stores the samples that were made from the model.
    """

    def __init__(
        self,
        place: Place,
        store: Callable[[Sequence[StoredEvent]], None],
        keep: Callable[[int], None],
        keep_samples: Callable[[], None],
    ) -> None:
        self._events = answers.EventReader(place)
        self._store = store
        self._keep = keep
        self._keep_samples = keep_samples
        self._pending: list[MetricValue | Log] = []
        self._remaining = _MAX_STORED
        self._progress: Progress | None = None
        self._last_progress = Progress(progress=0, stage="")
        self._last_progress_at = 0.0
        self._flushed_at = 0.0
        self._waiting = Waiting()

    def __call__(self) -> None:
        """Read new events; pass them on unless the last write was too recent."""
        steps = []
        for event in self._events.new():
            if isinstance(event, StepFinished):
                steps.append(event.index)
            elif isinstance(event, SamplesMade):
                self._keep_samples()
            else:
                self._waiting.hear(event)
                if isinstance(event, Progress):
                    self._progress = event
                else:
                    self._add(event)
        self._progress = self._waiting.renewed() or self._progress
        if (said := self._waiting.words()) is not None:
            self._add(said)
        if steps:
            self.flush()
        for index in steps:
            self._keep(index)
        if time.monotonic() - self._flushed_at >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Pass the collected events on."""
        batch: list[StoredEvent] = [*self._pending]
        if self._progress is not None and self._is_worth_storing(self._progress):
            batch.append(self._progress)
            self._last_progress, self._last_progress_at = self._progress, time.monotonic()
            self._progress = None
        if batch:
            self._store(batch)
            self._flushed_at = time.monotonic()
        self._pending = []

    def _add(self, event: MetricValue | Log) -> None:
        if self._remaining > 0:
            self._remaining -= 1
            self._pending.append(event)

    def _is_worth_storing(self, progress: Progress) -> bool:
        return (
            progress.stage != self._last_progress.stage
            or progress.progress - self._last_progress.progress >= _PROGRESS_STEP
            or time.monotonic() - self._last_progress_at >= _PROGRESS_SECONDS
        )
