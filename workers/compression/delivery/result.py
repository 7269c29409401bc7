"""The ONNX files that users get: of each step, and of the whole job."""

from collections.abc import Sequence
from pathlib import Path

import onnx

from app.domain.directory import DELIVERED, FinishedStep
from workers.compression.graph.inference import graphs_of
from workers.compression.graph.load import files_of
from workers.compression.graph.writer import write

_WORTH = 64 << 20
"""Bytes of a file up to which the shapes of intermediate values are worth being left out."""


def results(original: Path, graphs: Sequence[Path], finished: Sequence[FinishedStep]) -> list[Path]:
    """Return the file of each step as users get it; the last one is the job's result.

    Where no step changed anything, or there is none, the last one is the upload's graph: the model
    as it was.

    Args:
        original: the upload's graph.
        graphs: the graphs of the steps.
        finished: the reports of the steps.
    """
    if not finished:
        return [original]
    files = [_without_shapes(graph) for graph in graphs]
    if not any(step.changed for step in finished):
        files[-1] = original
    return files


def _without_shapes(graph: Path) -> Path:
    """Write a graph without the shapes of intermediate values, which only steps read."""
    if len(files_of(graph)) > 1 or graph.stat().st_size > _WORTH:
        return graph
    proto = onnx.load_model(graph, load_external_data=False)
    for inner in graphs_of(proto.graph):
        del inner.value_info[:]
    path = graph.with_name(DELIVERED)
    write(proto, path, {})
    return path
