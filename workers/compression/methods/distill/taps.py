"""Where two networks can be compared inside: layers of the same place and size, paired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import onnx_ir as ir

from workers.compression.graph import shapes as graph_shapes
from workers.compression.graph.operators import is_layer, operand
from workers.compression.graph.shapes import Shapes
from workers.compression.samples.context import Context

_PARTS = (0.5, 1.0)
"""The depths within layers of one size that are compared."""

_MOST = 6


@dataclass(frozen=True)
class Tap:
    """What a layer gives."""

    name: str
    shape: tuple[int, ...]
    """For one sample: ``[N, C, …]`` of a convolution, ``[N, …, C]`` of a matrix product."""
    depth: float
    """The share of the layers up to this one."""
    last: bool
    """Whether channels come last."""

    @property
    def channels(self) -> int:
        """How many numbers it gives at each place."""
        return self.shape[-1 if self.last else 1]

    @property
    def space(self) -> tuple[int, ...]:
        """The places."""
        return self.shape[1:-1] if self.last else self.shape[2:]


Pair = tuple[Tap, Tap]
"""A layer of the student, and the one of the teacher that it is compared with."""


def shapes_of(model: ir.Model, context: Context) -> Shapes:
    """Return the shapes of a graph's values in one run."""
    return graph_shapes.of_run(model, context.example)


def taps(model: ir.Model, shapes: Mapping[str, tuple[int, ...]], samples: int) -> list[Tap]:
    """Return what the layers of a graph give, in order, but for the last layer's answer.

    Args:
        model: the graph.
        shapes: of its values in a run.
        samples: of a run.
    """
    layers = [node for node in model.graph if _is_layer(node)]
    inner = []
    for index, node in enumerate(layers[:-1], start=1):
        value = node.outputs[0]
        shape = shapes.get(str(value.name), ())
        if len(shape) >= 2 and shape[0] == samples and not value.is_graph_output():
            depth, last = index / len(layers), node.op_type in {"Gemm", "MatMul"}
            inner.append(Tap(str(value.name), shape, depth, last))
    return inner


def match(student: Sequence[Tap], teacher: Sequence[Tap], *, spatial: bool = False) -> list[Pair]:
    """Pair each of some layers of the student with one of the teacher.

    Layers that follow each other and have the same places are a stage. The middle and the end of
    each stage of the student look for the layer at the same depth of the teacher's layers with the
    same places or, where there are none, of all with as many dimensions.

    Args:
        student: its layers.
        teacher: its layers.
        spatial: only layers that have places.
    """
    pairs: dict[Pair, None] = {}
    for space, stage in groupby(student, key=lambda tap: tap.space):
        if spatial and not space:
            continue
        mine = list(stage)
        same = [tap for tap in teacher if tap.space == space]
        theirs = same or [tap for tap in teacher if len(tap.space) == len(space)]
        for part in _PARTS:
            tap = mine[max(0, round(part * len(mine)) - 1)]
            if not theirs:
                continue
            if same:
                other = theirs[max(0, round(part * len(theirs)) - 1)]
            else:
                other = min(theirs, key=lambda layer: abs(layer.depth - tap.depth))
            pairs[tap, other] = None
    return list(pairs)[-_MOST:]


def _is_layer(node: ir.Node) -> bool:
    weight = operand(node, 1)
    return is_layer(node) and weight is not None and weight.const_value is not None
