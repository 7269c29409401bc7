"""Learns how the weights of layers are rounded, layer by layer, on what the layers read.

Each layer is given the values of the float graph, rounded to their grids where they are quantized,
so that its own error alone is made small; see ``descent``. Of values only sums are kept: the graph
runs on the samples once for each part of its layers that fit into memory together, with their sums
and with what they read in one run. Where biases are corrected afterwards, errors count about their
mean.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.operators import input_axis
from workers.compression.graph.shapes import concrete, sizes_of
from workers.compression.looking.positions import is_plain, read_at
from workers.compression.looking.probe import runs, values_of
from workers.compression.methods.quantize import descent, integers
from workers.compression.methods.quantize.integers import Floats, Grid
from workers.compression.methods.quantize.levels import Levels
from workers.compression.samples.context import Context, Samples

_WORK = 1.5e11
"""Multiply-accumulates that all layers together may take; the cheapest layers come first."""
_POSITIONS = 4096
"""The positions, over all samples, that the sums of a layer are taken over."""
_MEMORY = 1 << 28
"""The bytes, in one pass over the samples, of sums and of what layers read in one run."""


@dataclass(frozen=True)
class Rounding:
    """A layer whose weights are rounded."""

    node: ir.Node
    """A Conv, Gemm or MatMul of the graph itself that alone reads its weight."""
    weights: Floats
    """In the node's layout."""
    levels: Levels
    """What weights may be rounded to, in the node's layout."""
    data: Grid | None
    """The grid of the layer's input; None where that stays as it is."""
    centred: bool
    """Whether the mean error goes into the layer's bias."""

    @property
    def name(self) -> str:
        """The node's name."""
        return str(self.node.name)

    @property
    def read(self) -> str:
        """The name of the value that the layer reads."""
        value = self.node.inputs[0]
        assert value is not None, "a layer reads data"
        return str(value.name)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The weights as ``[groups, outputs of a group, inputs]``."""
        groups = self.node.attributes.get_int("group", 1)
        rows = self._rows(self.weights)
        return groups, len(rows) // groups, rows.shape[1]

    def _rows(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an array in the node's layout as ``[outputs, inputs]``."""
        if input_axis(self.node) in {0, -2}:
            return array.T
        return array.reshape(len(array), -1)

    @property
    def work(self) -> float:
        """The multiply-accumulates that it takes to learn the rounding."""
        groups, _, inputs = self.shape
        return descent.work(self.shape) + 2.0 * _POSITIONS * groups * inputs**2

    def learned(self, sums: "_Sums") -> Floats:
        """Return the rounded weights in the node's layout."""
        second, cross = sums.moments(centred=self.centred)
        step = np.broadcast_to(self.levels.step, self.weights.shape)
        levels = replace(self.levels, step=self._rows(step).reshape(self.shape))
        weights = self._rows(self.weights).reshape(self.shape)
        rounded = descent.descend(weights, levels, second, cross)
        rows = rounded.reshape(-1, self.shape[2])
        across = input_axis(self.node) in {0, -2}
        return np.ascontiguousarray((rows.T if across else rows).reshape(self.weights.shape))


def is_learnable(node: ir.Node, weight: ir.Value, model: ir.Model) -> bool:
    """Return whether the rounding of a layer's weight can be learned."""
    data = node.inputs[0]
    return (
        node.op_type in ("Conv", "Gemm", "MatMul")
        and node.graph is model.graph
        and len(weight.uses()) == 1
        and node.inputs[1] is weight
        and data is not None
        and not data.is_initializer()
        and (node.op_type == "Conv" or len(weight.shape or ()) == 2)
        and is_plain(node)
    )


def learned_weights(
    model: ir.Model, layers: Sequence[Rounding], samples: Samples, context: Context
) -> dict[str, Floats]:
    """Return the rounded weights of layers, by the node's name, in the node's layout.

    Layers that read values that are not finite, or for which there is too much to compute or no
    time, have none.

    Args:
        model: the graph in float, whose nodes the layers are; not changed.
        layers: the layers.
        samples: what the graph runs on.
        context: threads, the deadline, and the seed that draws the positions that are looked at.
    """
    learned = dict[str, Floats]()
    if not layers:
        return learned
    shapes = concrete(model, sizes_of(model, samples.first_run()))
    for part in _parts(layers, shapes):
        if not context.has_time():
            break
        for layer, sums in zip(part, _observed(model, part, samples, context), strict=True):
            if sums.finite() and context.has_time():
                learned[layer.name] = layer.learned(sums)
    return learned


def _parts(
    layers: Sequence[Rounding], shapes: Mapping[str, Sequence[int]]
) -> Iterator[list[Rounding]]:
    """Yield the layers that there is work for, in parts that fit into memory.

    Args:
        layers: the layers.
        shapes: the shapes of values in one run, by name, as far as they are known.
    """
    part, taken, work = list[Rounding](), 0, 0.0
    for layer in sorted(layers, key=lambda each: each.work):
        groups, _, inputs = layer.shape
        size = 8 * groups * inputs**2 + 4 * prod(shapes.get(layer.read, (0,)))
        work += layer.work
        if work > _WORK:
            break
        if part and taken + size > _MEMORY:
            yield part
            part, taken = [], 0
        part.append(layer)
        taken += size
    if part:
        yield part


class _Sums:
    """Sums over positions of what a layer reads, in float ``x`` and rounded ``r``."""

    def __init__(self, groups: int, inputs: int) -> None:
        self._count, self._finite = 0, True
        self._means = np.zeros((2, groups, inputs))
        self._second = np.zeros((groups, inputs, inputs), np.float32)
        self._cross = np.zeros((groups, inputs, inputs), np.float32)

    def add(self, x: Floats, grid: Grid | None) -> None:
        """Add rows ``[positions, groups, inputs]``, as they are and rounded to a grid."""
        self._finite = self._finite and bool(np.isfinite(x).all())
        if not self._finite:
            return
        rounded = x if grid is None else integers.dequantize(integers.quantize(x, grid), grid)
        self._count += len(x)
        self._means += [rounded.sum(0), x.sum(0)]
        front = np.ascontiguousarray(rounded.transpose(1, 2, 0))
        self._second += front @ rounded.transpose(1, 0, 2)
        self._cross += front @ x.transpose(1, 0, 2)

    def finite(self) -> bool:
        """Return whether there were positions, and all that was added is finite."""
        return self._count > 0 and self._finite and bool(np.isfinite(self._second).all())

    def moments(self, *, centred: bool) -> tuple[Floats, Floats]:
        """Return the means of ``r·rᵀ`` and ``r·xᵀ``, ``[groups, inputs, inputs]``.

        Args:
            centred: whether products are taken about the means.
        """
        count = np.float32(self._count)
        second, cross = self._second / count, self._cross / count
        if centred:
            rounded, x = (self._means / self._count).astype(np.float32)
            second -= rounded[..., :, None] * rounded[..., None, :]
            cross -= rounded[..., :, None] * x[..., None, :]
        return second, cross


def _observed(
    model: ir.Model, layers: Sequence[Rounding], samples: Samples, context: Context
) -> list[_Sums]:
    """Run the graph on samples, and sum up what layers read."""
    random = np.random.default_rng(context.seed)
    names = list(dict.fromkeys(layer.read for layer in layers))
    shapes = [(groups, inputs) for groups, _, inputs in (layer.shape for layer in layers)]
    all_sums = [_Sums(*shape) for shape in shapes]
    positions = max(_POSITIONS // len(samples), 1) * samples.layout.size
    for values in runs(model, values_of(names), samples, context.threads, lambda _done: None):
        by_name = dict(zip(names, values, strict=True))
        for layer, shape, sums in zip(layers, shapes, all_sums, strict=True):
            rows, _ = read_at(layer.node, by_name[layer.read], positions, random)
            sums.add(rows.reshape(-1, *shape), layer.data)
    return all_sums
