"""The engine's events: progress, log lines and figures, one JSON object a line, appended."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

from app.domain.events import EngineEvent, Log, MetricValue, Progress, SamplesMade, StepFinished

_PAUSE = 0.25
"""Seconds between two events of progress within a part."""


class Events:
    """The sink of a run's events. Progress never falls.

    Args:
        path: ``events.jsonl``; lines are appended.
        echo: print progress and log lines on stderr too, for a person who watches.

    Attributes:
        stage: the current stage of the run, as in the last progress event.
    """

    stage: str

    def __init__(self, path: Path, *, echo: bool = False) -> None:
        self._path = path
        self._echo = echo
        self.stage = "starting"
        self._start = time.monotonic()
        self._reached = 0.0
        self._last_report = self._start

    def progress(self, fraction: float, stage: str) -> None:
        """Write a progress event, with the remaining time estimated from the pace so far."""
        self.stage = stage
        self._reached = max(self._reached, min(fraction, 1.0))
        self._last_report = time.monotonic()
        elapsed = self._last_report - self._start
        remaining = elapsed * (1 - self._reached) / self._reached if self._reached > 0.02 else None
        eta = None if remaining is None else round(remaining, 1)
        self._write(Progress(progress=round(self._reached, 4), stage=stage, eta_seconds=eta))
        self._print(f"{self._reached:5.0%}  {stage}")

    def span(self, start: float, stop: float, stage: str) -> Callable[[float], None]:
        """Return a function that reports the progress of a part of the run, from 0 to 1."""
        self.progress(start, stage)
        reported = start

        def advance(fraction: float) -> None:
            nonlocal reported
            reached = start + (stop - start) * fraction
            if reached - reported >= 0.01 and time.monotonic() - self._last_report >= _PAUSE:
                reported = reached
                self.progress(reached, stage)

        return advance

    def log(self, message: str) -> None:
        """Write a log line for the user."""
        self._write(Log(message=message[:4000]))
        self._print(message)

    def metric(self, step: int, name: str, value: float, epoch: int | None = None) -> None:
        """Write a figure of step ``step``, counted from 0; NaN and infinity are left out."""
        if math.isfinite(value):
            self._write(MetricValue(step=step, name=name, value=value, epoch=epoch))

    def step(self, index: int) -> None:
        """Write that a step's graph and report are complete on disk."""
        self._write(StepFinished(index=index))

    def samples_made(self) -> None:
        """Write that the samples that were made from the model are complete on disk."""
        self._write(SamplesMade())

    def _write(self, event: EngineEvent) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(event.model_dump_json() + "\n")

    def _print(self, line: str) -> None:
        if self._echo:
            print(line, file=sys.stderr)
