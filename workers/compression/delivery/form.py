"""What a format is to the engine: how a graph becomes its file, and how that is run."""

import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.domain.targets import ToolName
from workers.compression.samples.context import Feeds, Samples
from workers.compression.targets.runner import Runner


@dataclass(frozen=True)
class Source:
    """The graph that is delivered, and how it is run."""

    graph: Path
    workspace: Path
    """A directory for what this format needs on the way."""
    feeds: Feeds
    """What one run reads."""
    names: list[str]
    """Of the graph's outputs."""
    threads: int
    held_out: Samples
    """What it is judged on."""
    failures: Mapping[ToolName, str]
    """Of tools that were run and gave no answer, why."""


@dataclass(frozen=True)
class Replay:
    """What is known of an artifact that was run elsewhere."""

    samples: Samples
    """What it was run on, in order."""
    latency_ms: float


@dataclass(frozen=True)
class Waiting:
    """An artifact that a tool has yet to make."""

    tool: ToolName


@dataclass(frozen=True)
class Made:
    """An artifact, and how it is run."""

    file: Path
    """What the user downloads."""
    open: Callable[[], Runner] | None
    """Opens it on its own runtime; None where that cannot run here."""
    reason: str | None = None
    """Why it cannot run here."""
    replay: Replay | None = None
    """Set where ``open`` gives again what runs elsewhere gave."""


@dataclass(frozen=True)
class Form:
    """A format: its runtime, and how a graph becomes a file of it."""

    runtime: str
    package: str | None
    """The distribution that makes and runs it; the format is there where that is."""
    make: Callable[[Source, Path], Made | Waiting]
    """From a source and the directory of the artifacts to the artifact in it."""
    tool: ToolName | None = None
    """What makes and runs it in place of a distribution."""


def pack(files: Iterable[Path], archive: Path) -> Path:
    """Pack files into a zip without compression, the same bytes for the same files each time."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED, allowZip64=True) as packed:
        for file in files:
            entry = zipfile.ZipInfo(file.name)
            with file.open("rb") as source, packed.open(entry, "w", force_zip64=True) as target:
                while piece := source.read(1 << 20):
                    target.write(piece)
    return archive
