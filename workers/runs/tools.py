"""Runs the tools that an engine requests, each in its own Python, confined as the engine is."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from app.domain.directory import RUNTIME, delivery_directory
from app.domain.targets import TOOL_OF, OutputFormat, ToolName
from app.settings import Settings
from workers.runs import answers
from workers.runs.hold import Hold
from workers.sandbox.directories import Place
from workers.sandbox.limits import Exit, Limits
from workers.sandbox.server import REQUIRED, Sandbox, SandboxError
from workers.tools import environments

SECONDS = 15 * 60.0
"""The time limit of a tool."""

_TICK_SECONDS = 0.05

log = structlog.get_logger(__name__)


def run(
    sandbox: Sandbox,
    tool: ToolName,
    place: Place,
    hold: Hold,
    limits: Limits,
    used: Callable[[Exit, float], None],
) -> str | None:
    """Run a tool once on an engine's directory; return the reason if it failed, else None.

    Args:
        sandbox: a sandbox with the tool's Python.
        tool: the name of the tool.
        place: the directories in which the engine ran and will run again.
        hold: the lease of the job.
        limits: the limits of the run.
        used: called with how the run ended and the seconds that it took.

    Raises:
        LeaseLost, Cancelled, Stopping, RunningLimit: as ``Hold.check``; the tool is dead by then.
    """
    began = time.monotonic()
    try:
        going = sandbox.start(place.engine, limits, entry=f"workers.tools.{tool}:main")
        try:
            while (end := going.wait(_TICK_SECONDS)) is None:
                hold.check()
        except BaseException:
            used(going.kill(), time.monotonic() - began)
            raise
    except SandboxError as error:
        return f"The tool '{tool}' does not start: {error}."
    used(end, time.monotonic() - began)
    if end.reason == "exited" and end.code == 0:
        return None
    log.warning("tool died", tool=tool, **vars(end), last_words=answers.last_words(place))
    return f"The tool '{tool}' {_end(end, limits)}."


def lay_out_files(settings: Settings, formats: Sequence[OutputFormat], root: Path) -> None:
    """Put the files of tools that go into artifacts into a job's directory."""
    base = environments.base(settings.worker.tools)
    for name in formats:
        tool = TOOL_OF.get(name)
        if tool in environments.FILES_ALONE and tool in environments.installed(base):
            target = delivery_directory(root, name) / RUNTIME
            target.mkdir(parents=True, exist_ok=True)
            for file in environments.files_of(base, tool):
                shutil.copyfile(file, target / file.name)


def sandbox_of(settings: Settings, tool: ToolName) -> Sandbox:
    """Return a sandbox of a tool's Python; its fork server ends with the context."""
    python = environments.python_of(environments.base(settings.worker.tools), tool)
    required = REQUIRED if settings.engine.require_confinement else frozenset[str]()
    return Sandbox(preload=False, python=python, require=required)


def _end(end: Exit, limits: Limits) -> str:
    match end.reason:
        case "deadline":
            return f"did not come to its end within {limits.wall_seconds or 0:.0f} s"
        case "memory":
            return f"needed more than the {limits.memory_bytes} bytes of memory that it may use"
        case "storage":
            return f"wrote more than the {limits.directory_bytes} bytes that its directory may hold"
        case _:
            how = f"signal {end.signal}" if end.signal else f"code {end.code}"
            return f"ended by {how} without an answer"
