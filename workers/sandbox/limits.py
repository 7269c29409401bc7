"""The limits of a run, and how a run ended."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Limits:
    """The limits of a run."""

    memory_bytes: int
    """Memory of all its processes together that no file backs."""
    cpu_seconds: int | None
    """CPU seconds of one process."""
    file_bytes: int
    """Bytes of one file."""
    directory_bytes: int
    processes: int
    """Processes and threads at one time."""
    wall_seconds: float | None


@dataclass(frozen=True)
class Exit:
    """How a run ended."""

    code: int | None
    """The exit code of the entry; None if a signal ended it."""
    signal: int | None
    cpu_seconds: float
    """User and system time of all its processes."""
    peak_memory_bytes: int
    reason: Literal["exited", "killed", "memory", "storage", "deadline"]
    """Which limit was passed; "killed" is any signal that no limit explains."""
