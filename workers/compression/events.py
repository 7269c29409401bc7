"""The engine's events: progress, log lines and figures, one JSON object a line, appended."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

from app.domain.events import EngineEvent, Log, MetricValue, Progress, SamplesMade, StepFinished
from workers.compression.pace import Pace

_PAUSE = 0.25
"""Seconds between two events of progress within a part."""


class Events:
    """The sink of a run's events. Progress never falls.

    Args:
        path: ``events.jsonl``; lines are appended.
        echo: print progress and log lines on stderr too, for a person who watches.
        on_stage: called with the stage, whenever progress is told.
        clock: seconds that only grow.

    Attributes:
        stage: the current stage of the run, as in the last progress event.
    """

    stage: str

    def __init__(
        self,
        path: Path,
        *,
        echo: bool = False,
        on_stage: Callable[[str], None] = lambda _stage: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._echo = echo
        self._on_stage = on_stage
        self._clock = clock
        self.stage = "starting"
        self._last_report = clock()
        self._pace = Pace(self._last_report)

    def expect(self, after: float, seconds: float, before: float | None = None) -> None:
        """Say how long the run is expected to take once it has come to ``after``.

        ``before`` is what its steps are expected to take until then; None where they are waited
        for to show it.
        """
        self._pace.expect(after, seconds, before)

    def pace_from(self, fraction: float) -> None:
        """Say from which progress on the pace of the run tells what is left of it."""
        self._pace.pace_from(fraction)

    def pace_anew(self) -> None:
        """Say that what comes is as an earlier run left it: the pace counts from there on."""
        self._pace.pace_anew()

    def progress(self, fraction: float, stage: str) -> None:
        """Write a progress event, with the time that is left."""
        self._tell(fraction, stage)
        self._pace.end_part()

    def span(
        self, start: float, stop: float, stage: str, seconds: float | None = None
    ) -> Callable[[float], None]:
        """Return a function that reports the progress of a part of the run, from 0 to 1.

        ``seconds`` is what the part is expected to take, until it has a pace.
        """
        self._pace.begin_part(self._clock(), start, stop, seconds)
        self._tell(start, stage)
        reported = start

        def advance(fraction: float) -> None:
            nonlocal reported
            reached = start + (stop - start) * fraction
            if reached - reported >= 0.01 and self._clock() - self._last_report >= _PAUSE:
                reported = reached
                self._tell(reached, stage)

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

    def _tell(self, fraction: float, stage: str) -> None:
        self.stage = stage
        self._last_report = self._clock()
        reached, left = self._pace.reach(fraction, self._last_report)
        eta = None if left is None else round(left, 1)
        self._write(Progress(progress=round(reached, 4), stage=stage, eta_seconds=eta))
        self._print(f"{reached:5.0%}  {stage}")
        self._on_stage(stage)

    def _write(self, event: EngineEvent) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(event.model_dump_json() + "\n")

    def _print(self, line: str) -> None:
        if self._echo:
            print(line, file=sys.stderr)
