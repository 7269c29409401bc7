"""What layers read and give on calibration data, as second moments.

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
"""A moment has the square of this many elements."""
_SUMS = 3
"""Arrays that a value is looked at by."""


def collect(
    model: ir.Model,
    layers: Sequence[LowRankLayer],
    samples: Samples,
    threads: int,
    advance: Callable[[float], None],
) -> dict[str, ChannelMoments]:
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

    looked = list(dict.fromkeys(each for layer in chosen for each in _looked_at(layer)))

    def probe(edit: Editor) -> list[str]:
        values = ir.convenience.create_value_mapping(edit.graph)
        return [
            wanted
            for value, images in looked
            for wanted in sums_of(edit, values[str(value.name)], images)
        ]

    rest = iter(totals(model, probe, samples, threads, advance))
    sums = {each: [next(rest) for _ in range(_SUMS)] for each in looked}
    found = dict[str, ChannelMoments]()
    for layer in chosen:
        own = [array for each in _looked_at(layer) for array in sums[each]]
        if all(np.isfinite(array).all() for array in own):
            found[layer.name] = _moments(layer, own)
    return found


def _looked_at(layer: LowRankLayer) -> list[tuple[ir.Value, int | None]]:
    """Return the input, and the output where its moments are the smaller way to the same end.

    Images come with their rank.
    """
    read, given = layer.node.inputs[0], layer.node.outputs[0]
    assert read is not None
    few = len(layer.weight) <= min(layer.weight[0].size, _MOST_CHANNELS)
    images = layer.weight.ndim if layer.node.op_type == "Conv" else None
    return [(value, images) for value in ((read, given) if few else (read,))]


def _moments(layer: LowRankLayer, sums: Sequence[NDArray[np.float64]]) -> ChannelMoments:
    """Divide what was summed up over inputs, and perhaps outputs, by the number of positions."""
    inputs = sums[0] / (sums[2] / len(sums[1]))
    if len(sums) == _SUMS:
        return ChannelMoments(inputs, None, None)
    outputs, mean = (each / (sums[5] / len(sums[4])) for each in sums[3:5])
    if layer.node.op_type == "MatMul":
        return ChannelMoments(inputs, outputs, None)
    return ChannelMoments(inputs, outputs - np.outer(mean, mean), mean - layer.bias)
