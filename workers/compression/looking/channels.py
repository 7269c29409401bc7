"""Observes extremes and power of the channels of values inside a graph."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.editor import Editor
from workers.compression.looking.probe import runs, show
from workers.compression.samples.context import Samples

Array = NDArray[np.float64]

_PARTS = ("ReduceMin", "ReduceMax", "ReduceSumSquare")


@dataclass(frozen=True)
class ChannelStatistics:
    """Statistics of a value's channels on data, ``[C]`` each."""

    low: Array
    high: Array
    power: Array
    """The mean of the squares."""

    @property
    def magnitude(self) -> Array:
        """The greatest absolute value of each channel."""
        return np.maximum(-self.low, self.high)

    @property
    def finite(self) -> bool:
        """Whether all figures are finite numbers."""
        return bool(np.isfinite([self.low, self.high, self.power]).all())


def channel_statistics(
    model: ir.Model, ranks: Mapping[ir.Value, int | None], samples: Samples, threads: int
) -> dict[ir.Value, ChannelStatistics]:
    """Run a graph on samples and return the statistics of the values' channels.

    Args:
        model: the graph, of opset ``probe.AXES_AS_INPUT`` or newer; not changed.
        ranks: the values, each with its rank if channels are its second axis; None if they are the
            last one.
        samples: the samples to run, in one pass.
        threads: the number of threads.
    """
    ranks_by_name = {str(value.name): rank for value, rank in ranks.items()}

    def probe(edit: Editor) -> list[str]:
        values = ir.convenience.create_value_mapping(edit.graph)
        return [
            output
            for name, rank in ranks_by_name.items()
            for output in _reduced(edit, values[name], rank)
        ]

    names = list(ranks_by_name)
    low, high, squares, sizes = ({name: np.array(start) for name in names} for start in
                                 (np.inf, -np.inf, 0.0, 0.0))  # fmt: skip
    for batch in runs(model, probe, samples, threads, lambda _: None):
        for index, name in enumerate(names):
            least, most, square, size = (a.astype(np.float64) for a in batch[4 * index :][:4])
            low[name], high[name] = np.minimum(low[name], least), np.maximum(high[name], most)
            squares[name], sizes[name] = squares[name] + square, sizes[name] + size
    return {
        value: ChannelStatistics(
            low[name], high[name], squares[name] * low[name].size / max(sizes[name], 1)
        )
        for value, name in zip(ranks, names, strict=True)
    }


def _reduced(edit: Editor, value: ir.Value, rank: int | None) -> list[str]:
    """Add outputs for minimum, maximum and squares of each channel, and the value's size."""
    name = str(value.name)
    if rank is None:
        flat = edit.node("Flatten", [value], f"{name}_flat", axis=-1)
        edit.graph.append(flat)
        value, others = flat.outputs[0], [0]
    else:
        others = [0, *range(2, rank)]
    axes = edit.constant(f"{name}_other_axes", np.array(others))
    reduced = [edit.node(part, [value, axes], f"{name}_{part}", keepdims=0) for part in _PARTS]
    size = edit.node("Size", [value], f"{name}_size")
    return [*(show(edit, node) for node in reduced), show(edit, size, ir.DataType.INT64)]
