"""What the engine tells while it runs: one JSON object a line, appended."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

from app.domain.events import EngineEvent, Log, MetricValue, Progress, StepFinished

_PAUSE = 0.25
"""Seconds between two events of progress within a part."""


class Events:
    """The sink of a run's events. Progress never falls.

    Args:
        path: ``events.jsonl``; lines are appended.
        echo: say progress and logs on stderr too, for a person who watches.

    Attributes:
        stage: the part of the run that goes on, as the last event of progress called it.
    """

    stage: str

    def __init__(self, path: Path, *, echo: bool = False) -> None:
        self._path = path
        self._echo = echo
        self.stage = "starting"
        self._start = time.monotonic()
        self._reached = 0.0
        self._spoke = self._start

    def progress(self, fraction: float, stage: str) -> None:
        """Say how far the run is, with the time that is left by the pace so far."""
        self.stage = stage
        self._reached = max(self._reached, min(fraction, 1.0))
        self._spoke = time.monotonic()
        elapsed = self._spoke - self._start
        left = elapsed * (1 - self._reached) / self._reached if self._reached > 0.02 else None
        eta = None if left is None else round(left, 1)
        self._write(Progress(progress=round(self._reached, 4), stage=stage, eta_seconds=eta))
        self._say(f"{self._reached:5.0%}  {stage}")

    def span(self, start: float, stop: float, stage: str) -> Callable[[float], None]:
        """Return a function that maps 0 to 1 of a part of the run to the whole."""
        self.progress(start, stage)
        said = start

        def advance(fraction: float) -> None:
            nonlocal said
            reached = start + (stop - start) * fraction
            if reached - said >= 0.01 and time.monotonic() - self._spoke >= _PAUSE:
                said = reached
                self.progress(reached, stage)

        return advance

    def log(self, message: str) -> None:
        """Tell the user something."""
        self._write(Log(message=message[:4000]))
        self._say(message)

    def metric(self, step: int, name: str, value: float, epoch: int | None = None) -> None:
        """Tell a figure on the way of step ``step``, counted from 0; one without a value is not."""
        if math.isfinite(value):
            self._write(MetricValue(step=step, name=name, value=value, epoch=epoch))

    def step(self, index: int) -> None:
        """Say that a step's graph and report are complete on disk."""
        self._write(StepFinished(index=index))

    def _write(self, event: EngineEvent) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(event.model_dump_json() + "\n")

    def _say(self, line: str) -> None:
        if self._echo:
            print(line, file=sys.stderr)
