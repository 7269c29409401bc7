"""Second moments of the inputs and outputs of layers on calibration data.

The moments are computed inside the graph, batch by batch, so that no activation is kept.
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.editor import Editor
from workers.compression.looking.probe import sums_of, totals
from workers.compression.methods.low_rank.decompositions import ChannelMoments
from workers.compression.methods.low_rank.layers import LowRankLayer
from workers.compression.samples.context import Samples

_MOST_CHANNELS = 4096
"""The most channels of which moments are computed: they take the square of this in elements."""
_SUMS = 3
"""The number of arrays that ``sums_of`` computes of a value."""


def collect(
    model: ir.Model,
    layers: Sequence[LowRankLayer],
    samples: Samples,
    threads: int,
    advance: Callable[[float], None],
) -> dict[str, ChannelMoments]:
    """Return the moments of each layer, by the layer's name.

    Layers whose activations are not finite, or that have too many input channels, are left out.

    Args:
        model: the graph; not changed.
        layers: layers of the graph.
        samples: the samples to run.
        threads: the number of threads.
        advance: called with the fraction done.
    """
    chosen = [layer for layer in layers if layer.weight.shape[1] <= _MOST_CHANNELS]
    if not chosen:
        return {}

    observed = list(dict.fromkeys(key for layer in chosen for key in _observed_values(layer)))

    def probe(edit: Editor) -> list[str]:
        values = ir.convenience.create_value_mapping(edit.graph)
        return [
            output
            for value, images in observed
            for output in sums_of(edit, values[str(value.name)], images)
        ]

    arrays = iter(totals(model, probe, samples, threads, advance))
    sums = {key: [next(arrays) for _ in range(_SUMS)] for key in observed}
    moments = dict[str, ChannelMoments]()
    for layer in chosen:
        layer_sums = [array for key in _observed_values(layer) for array in sums[key]]
        if all(np.isfinite(array).all() for array in layer_sums):
            moments[layer.name] = _moments(layer, layer_sums)
    return moments


def _observed_values(layer: LowRankLayer) -> list[tuple[ir.Value, int | None]]:
    """Return the values whose moments a layer needs, each with its rank if it is an image.

    These are the input, and the output where it has no more channels than the weight has inputs.
    """
    data, output = layer.node.inputs[0], layer.node.outputs[0]
    assert data is not None
    observes_output = len(layer.weight) <= min(layer.weight[0].size, _MOST_CHANNELS)
    images = layer.weight.ndim if layer.node.op_type == "Conv" else None
    return [(value, images) for value in ((data, output) if observes_output else (data,))]


def _moments(layer: LowRankLayer, sums: Sequence[NDArray[np.float64]]) -> ChannelMoments:
    """Divide the sums over inputs, and maybe outputs, by the number of positions."""
    inputs = sums[0] / (sums[2] / len(sums[1]))
    if len(sums) == _SUMS:
        return ChannelMoments(inputs, None, None)
    outputs, mean = (total / (sums[5] / len(sums[4])) for total in sums[3:5])
    if layer.node.op_type == "MatMul":
        return ChannelMoments(inputs, outputs, None)
    return ChannelMoments(inputs, outputs - np.outer(mean, mean), mean - layer.bias)
