"""What layers read and give on calibration data, as second moments.

The moments are computed inside the graph, batch by batch, so that no activation is kept.
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.context import Samples
from workers.compression.graph.editor import Editor
from workers.compression.methods.low_rank.decompositions import Moments
from workers.compression.methods.low_rank.layers import Layer
from workers.compression.probe import runs, sums_of

_MOST_CHANNELS = 4096
"""A moment has the square of this many elements."""


def collect(
    model: ir.Model,
    layers: Sequence[Layer],
    samples: Samples,
    threads: int,
    advance: Callable[[float], None],
) -> dict[str, Moments]:
    """Return the moments of each layer by its name.

    Layers whose activations are not finite, or that read very many channels, are left out.

    Args:
        model: the graph; not changed.
        layers: of it.
        samples: to run.
        threads: to compute with.
        advance: told the fraction done.
    """
    chosen = [layer for layer in layers if layer.weight.shape[1] <= _MOST_CHANNELS]
    if not chosen:
        return {}

    def probe(edit: Editor) -> list[str]:
        values = ir.convenience.create_value_mapping(edit.graph)
        wanted = []
        for layer in chosen:
            for value in _looked_at(layer):
                wanted += sums_of(edit, values[str(value.name)], layer.node.op_type == "Conv")
        return wanted

    total: list[NDArray[np.float64]] = []
    for batch in runs(model, probe, samples, threads, advance):
        sums = [array.astype(np.float64) for array in batch]
        total = [a + b for a, b in zip(total, sums, strict=True)] if total else sums
    found, rest = dict[str, Moments](), iter(total)
    for layer in chosen:
        sums = [next(rest) for _ in range(3 * len(_looked_at(layer)))]
        if all(np.isfinite(each).all() for each in sums):
            found[layer.name] = _moments(layer, sums)
    return found


def _looked_at(layer: Layer) -> list[ir.Value]:
    """Return the input, and the output where its moments are the smaller way to the same end."""
    read, given = layer.node.inputs[0], layer.node.outputs[0]
    assert read is not None
    few = len(layer.weight) <= min(layer.weight[0].size, _MOST_CHANNELS)
    return [read, given] if few else [read]


def _moments(layer: Layer, sums: Sequence[NDArray[np.float64]]) -> Moments:
    """Divide what was summed up over inputs, and perhaps outputs, by the number of positions."""
    inputs = sums[0] / (sums[2] / len(sums[1]))
    if len(sums) == 3:
        return Moments(inputs, None, None)
    outputs, mean = (each / (sums[5] / len(sums[4])) for each in sums[3:5])
    if layer.node.op_type == "MatMul":
        return Moments(inputs, outputs, None)
    return Moments(inputs, outputs - np.outer(mean, mean), mean - layer.bias)
