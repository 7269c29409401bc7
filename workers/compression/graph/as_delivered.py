"""Graphs as users get them: without the shapes of intermediate values, which only steps read."""

from pathlib import Path

import onnx

from workers.compression.graph.inference import graphs_of
from workers.compression.graph.load import files_of
from workers.compression.graph.writer import write

_WORTH = 64 << 20
"""Bytes of a file up to which these shapes are worth being left out."""


def as_delivered(graph: Path, path: Path) -> Path:
    """Write a graph without the shapes of intermediate values.

    onnxruntime optimizes such a graph in another way than one with shapes, so it is what has to be
    run before a result counts.

    Args:
        graph: a file; not changed.
        path: overwritten.

    Returns:
        ``path``, or ``graph`` where it is so large that shapes do not matter.
    """
    if len(files_of(graph)) > 1 or graph.stat().st_size > _WORTH:
        return graph
    proto = onnx.load_model(graph, load_external_data=False)
    for inner in graphs_of(proto.graph):
        del inner.value_info[:]
    write(proto, path, {})
    return path
