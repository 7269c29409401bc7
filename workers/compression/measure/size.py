"""The size of a graph: bytes of its file, parameters, multiply-accumulates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.compression.graph import stats
from workers.compression.graph.load import files_of, load
from workers.compression.samples.context import Feeds


@dataclass(frozen=True)
class Size:
    """The figures of a graph that need no run."""

    size_bytes: int
    parameters: int
    nonzero_parameters: int
    macs: int
    unknown: int
    """Nodes whose multiply-accumulates could not be counted."""
    uncounted: Sequence[str]
    """Operators whose multiply-accumulates are not counted."""


def measure(path: Path, sizes: Mapping[str, int], feeds: Feeds | None, samples: int = 1) -> Size:
    """Measure a graph on disk.

    Args:
        path: the file of the graph.
        sizes: the sizes of its dynamic dimensions in one run.
        feeds: the inputs of one run of these sizes.
        samples: the number of samples of a run.
    """
    figures = stats.measure(load(path), sizes, feeds, samples)
    return Size(
        size_bytes=sum(file.stat().st_size for file in files_of(path)),
        parameters=figures.parameters,
        nonzero_parameters=figures.nonzero_parameters,
        macs=figures.macs,
        unknown=len(figures.unknown),
        uncounted=figures.uncounted,
    )
