"""What a format is to the engine: how a graph becomes its file, and how that is run."""

import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from workers.compression.samples.context import Feeds
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


@dataclass(frozen=True)
class Made:
    """An artifact, and how it is run."""

    file: Path
    """What the user downloads."""
    open: Callable[[], Runner] | None
    """Opens it on its own runtime; None where that cannot run here."""
    reason: str | None = None
    """Why it cannot run here."""


@dataclass(frozen=True)
class Form:
    """A format: its runtime, and how a graph becomes a file of it."""

    runtime: str
    package: str
    """The distribution that makes and runs it; the format is there where that is."""
    make: Callable[[Source, Path], Made]
    """From a source and the directory of the artifacts to the artifact in it."""


def pack(files: Iterable[Path], archive: Path) -> Path:
    """Pack files into a zip without compression, the same bytes for the same files each time."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED, allowZip64=True) as packed:
        for file in files:
            entry = zipfile.ZipInfo(file.name)
            with file.open("rb") as source, packed.open(entry, "w", force_zip64=True) as target:
                while piece := source.read(1 << 20):
                    target.write(piece)
    return archive
