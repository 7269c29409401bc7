"""Runs the engine in a directory until it writes a result; restarts it where that may help.

The engine reports every error in its result. An engine that ends without a result was killed by a
limit, from outside, or by a crash of a native library. That may be temporary, so the engine is
started again, up to a bound. An engine that exited by itself without a result would do so again,
and is not restarted.
"""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from app import tracing
from app.domain.directory import RESULT, Result
from app.domain.jobs import Usage
from app.domain.problems import EngineCrashed, MemoryLimit, Problem, RunningLimit, StorageLimit
from app.domain.request_parts import device_kind
from app.store import counters
from workers.runs import answers
from workers.runs.hold import Hold
from workers.sandbox.directories import Place
from workers.sandbox.limits import Exit, Limits
from workers.worker import Worker

_TICK_SECONDS = 0.05
_MEMORY_DEATHS = 2
"""Memory may have been short for a moment; after two deaths the run needs too much."""

log = structlog.get_logger(__name__)


@dataclass
class Engine:
    """The engine processes of one run, one after the other, and their resource usage."""

    worker: Worker
    hold: Hold
    place: Place
    memory_bytes: int
    attempts: int
    """The largest number of starts."""
    restarted: Callable[[], None]
    """Called before each restart."""
    listen: Callable[[], None] = lambda: None
    """Called repeatedly while the engine runs, and once afterwards."""
    usage: Usage = field(default_factory=Usage)
    _started: int = 0

    def answer(self) -> Result:
        """Return the engine's result, which may hold a problem with the input.

        Raises:
            Problem: a limit was passed, or the engine died in every start.
            LeaseLost, Cancelled, Stopping: see ``Hold.check``; the engine is dead by then.
        """
        memory_deaths = 0
        while True:
            end = self._run()
            self.listen()
            result = answers.result(self.place) if end.reason == "exited" else None
            if result is not None:
                self._note(result)
                return result
            memory_deaths += end.reason == "memory"
            self.worker.figures.add(counters.ENGINE_DEATHS, end.reason)
            log.warning("engine died", **vars(end), last_words=answers.last_words(self.place))
            if problem := self._problem(end, last=memory_deaths == _MEMORY_DEATHS):
                raise problem
            self.hold.do(self.restarted)

    def _note(self, result: Result) -> None:
        """Log the last words of the engine with its problem; its own log will be deleted."""
        if result.problem is not None:
            words = answers.last_words(self.place)
            log.warning("engine answered with a problem", type=result.problem.type, words=words)

    def _run(self) -> Exit:
        (self.place.engine / RESULT).unlink(missing_ok=True)
        self._started += 1
        began = time.monotonic()
        with tracing.span("engine"), self.worker.sandboxes.lend() as sandbox:
            run = sandbox.start(self.place.engine, self.limits(), entry=self.worker.entry)
            try:
                while (end := run.wait(_TICK_SECONDS)) is None:
                    self.hold.check()
                    self.listen()
            except BaseException:
                self.add(run.kill(), time.monotonic() - began)
                raise
        self.add(end, time.monotonic() - began)
        return end

    def limits(self) -> Limits:
        """Return the limits of a run that starts now."""
        engine = self.worker.settings.engine
        return Limits(
            memory_bytes=self.memory_bytes,
            cpu_seconds=None,
            file_bytes=engine.directory_bytes,
            directory_bytes=engine.directory_bytes,
            processes=engine.processes,
            wall_seconds=max(0.0, self.hold.seconds_left),
        )

    def add(self, end: Exit, seconds: float) -> None:
        """Add the resource usage of a run."""
        device = device_kind(self.worker.device)
        self.worker.figures.add(counters.STAGE_SECONDS, "engine", seconds)
        self.worker.figures.add(counters.DEVICE_SECONDS, device, seconds)
        gpu = 0.0 if self.worker.device == "cpu" else seconds
        self.usage = Usage(
            cpu_seconds=self.usage.cpu_seconds + end.cpu_seconds,
            gpu_seconds=self.usage.gpu_seconds + gpu,
            peak_memory_bytes=max(self.usage.peak_memory_bytes, end.peak_memory_bytes),
        )

    def _problem(self, end: Exit, *, last: bool) -> Problem | None:
        """Return the problem that ends the run, or None if a restart may help."""
        if end.reason == "deadline":
            return RunningLimit("The time that the run may take is up.")
        if end.reason == "storage":
            return StorageLimit(
                f"The run wrote more than the {self.worker.settings.engine.directory_bytes} bytes"
                " that its directory may hold. Use a smaller model or dataset."
            )
        if end.reason == "memory" and (last or self._started >= self.attempts):
            return MemoryLimit(
                f"The run needed more than the {self.memory_bytes} bytes of memory that it may"
                " use. Use a smaller model, or fewer samples at a time.",
                limit_bytes=self.memory_bytes,
            )
        if end.reason == "exited" or self._started >= self.attempts:
            return EngineCrashed(_reason(end, self._started, answers.stage(self.place)))
        return None


def _reason(end: Exit, starts: int, stage: str) -> str:
    if end.signal is None:
        how = f"ended with code {end.code} and without an answer"
    else:
        how = f"was ended by signal {end.signal} ({signal.strsignal(end.signal)})"
    where = f" at '{stage}'" if stage else ""
    return (
        f"The engine process {how}{where}, in the last of {starts} starts. Please report it with"
        " the id of the job or of the upload. Until it is mended, leave out the step that ran, or"
        " take another mode of it."
    )
