"""The output formats and their runtimes, in one table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.domain.targets import TargetName
from workers.compression.targets import onnx


@dataclass(frozen=True)
class Format:
    """How a graph becomes a file of this format."""

    deliver: Callable[[Path, Path], Path]
    """From a graph on disk and a directory to the artifact in it."""


TARGETS: dict[TargetName, Format] = {"onnx": Format(onnx.deliver)}
