"""The interface of a delivery format: how its file is written, and how the file is run."""

import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.domain.directory import InspectModel
from app.domain.targets import ToolName
from workers.compression.graph.kept import Kept
from workers.compression.samples.context import Feeds, Samples
from workers.compression.targets.runner import Runner


@dataclass(frozen=True)
class Upload:
    """The file of another framework whose layers the result has."""

    file: Path
    order: InspectModel
    """What the user said of it, and whether code of it may run."""
    graph: Path
    """Its graph in normal form, before any step."""
    kept: Kept
    """What is left of that graph's constants."""


@dataclass(frozen=True)
class Source:
    """The graph to deliver, and the inputs to run it on."""

    graph: Path
    """The result in normal form: what other formats are made from."""
    result: Path
    """The result as an ONNX file for users."""
    workspace: Path
    """A directory for intermediate files of this format."""
    feeds: Feeds
    """The inputs of one run."""
    names: list[str]
    """The names of the graph's outputs."""
    threads: int
    held_out: Samples
    """The samples that the result is judged on."""
    failures: Mapping[ToolName, str]
    """For each tool that ran without an answer, the reason."""
    upload: Upload | None = None
    """The upload whose layers the graph has; None if that is ONNX."""


@dataclass(frozen=True)
class Replay:
    """The results of an artifact that a tool has run."""

    samples: Samples
    """The samples that it was run on, in order."""
    latency_ms: float


@dataclass(frozen=True)
class Waiting:
    """An artifact that a tool has yet to make."""

    tool: ToolName


@dataclass(frozen=True)
class Made:
    """An artifact, and how to run it."""

    file: Path
    """The file that the user downloads."""
    open: Callable[[], Runner] | None
    """Opens the file on its own runtime; None where the runtime is not available here."""
    reason: str | None = None
    """Why the file cannot be run here; or what of the graph it does not keep."""
    replay: Replay | None = None
    """Set where ``open`` replays the outputs of a run by a tool."""


@dataclass(frozen=True)
class Form:
    """A format: its runtime, and how a graph becomes a file of it."""

    runtime: str
    package: str | None
    """The Python distribution that makes and runs it; the format is available where it is
    installed."""
    make: Callable[[Source, Path], Made | Waiting]
    """Writes the artifact of a source into a directory."""
    tool: ToolName | None = None
    """The tool that makes and runs it, or whose files it holds, instead of a distribution."""
    waits: bool = False
    """Whether that tool has to run before the artifact is written."""


def pack(files: Iterable[Path], archive: Path) -> Path:
    """Pack files into a zip without compression; the same files always give the same bytes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED, allowZip64=True) as packed:
        for file in files:
            entry = zipfile.ZipInfo(file.name)
            with file.open("rb") as source, packed.open(entry, "w", force_zip64=True) as target:
                while piece := source.read(1 << 20):
                    target.write(piece)
    return archive
