"""The ONNX files that users get: of each step, and of the whole job."""

from collections.abc import Sequence
from pathlib import Path

from app.domain.directory import DELIVERED, FinishedStep
from workers.compression.graph.as_delivered import as_delivered


def results(original: Path, graphs: Sequence[Path], finished: Sequence[FinishedStep]) -> list[Path]:
    """Return the file of each step as users get it; the last one is the job's result.

    Where no step changed anything, or there is none, the last one is the upload's graph. Its bytes
    may be others than the upload's: external data is in it, and exporters' notes are not.

    Args:
        original: the upload's graph.
        graphs: the graphs of the steps.
        finished: the reports of the steps.
    """
    if not finished:
        return [original]
    files = [as_delivered(graph, graph.with_name(DELIVERED)) for graph in graphs]
    if not any(step.changed for step in finished):
        files[-1] = original
    return files
