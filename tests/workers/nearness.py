"""How near the outputs of one graph are to those of another."""

from pathlib import Path

from workers.compression.measure.fidelity import Nearness
from workers.compression.measure.passes import rows
from workers.compression.samples.context import Samples
from workers.compression.targets.onnx import open_session


def outputs_explained(reference: Path, path: Path, samples: Samples) -> float:
    """Return the share of the variance of a graph's outputs that another one's keep, 0 to 1."""
    nearness = Nearness()
    passes = (rows(open_session(graph, 1), samples) for graph in (reference, path))
    for (_, expected), (_, given) in zip(*passes, strict=True):
        nearness.add(expected, given)
    return nearness.choosing
