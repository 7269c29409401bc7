"""How many samples can run within a limit of work."""

import numpy as np
import onnx_ir as ir

from workers.compression.graph import stats
from workers.compression.graph.shapes import sizes_of
from workers.compression.samples.context import Samples


def affordable(model: ir.Model, samples: Samples, work: float, fewest: int, most: int) -> int:
    """Return how many samples can run within a limit of work.

    Args:
        model: the graph that runs.
        samples: the samples, for their shapes.
        work: the limit, in multiply-accumulates.
        fewest: the lower bound of the result.
        most: the upper bound of the result.
    """
    sizes = sizes_of(model, samples.first_run())
    macs = max(stats.measure(model, sizes, samples=samples.layout.size).macs, 1)
    return int(np.clip(work / macs, fewest, most))
