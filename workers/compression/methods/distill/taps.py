"""Pairs the inner layers of student and teacher that can be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import onnx_ir as ir

from workers.compression.graph import shapes as graph_shapes
from workers.compression.graph.operators import is_layer, operand
from workers.compression.graph.shapes import Shapes
from workers.compression.samples.context import Context

_PARTS = (0.5, 1.0)
"""The relative depths, within a stage of layers of one size, at which layers are compared."""

_MOST = 6


@dataclass(frozen=True)
class Tap:
    """The output of an inner layer."""

    name: str
    shape: tuple[int, ...]
    """The shape for one sample: ``[N, C, …]`` for a convolution, ``[N, …, C]`` for a product."""
    depth: float
    """The layer's position as a share of all layers, 0 to 1."""
    last: bool
    """Whether the channels are the last axis."""

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.shape[-1 if self.last else 1]

    @property
    def space(self) -> tuple[int, ...]:
        """The sizes of the axes other than batch and channels."""
        return self.shape[1:-1] if self.last else self.shape[2:]


Pair = tuple[Tap, Tap]
"""A layer of the student, and the layer of the teacher that it is compared with."""


def shapes_of(model: ir.Model, context: Context) -> Shapes:
    """Return the shapes of a graph's values in one run."""
    return graph_shapes.of_run(model, context.example)


def taps(model: ir.Model, shapes: Mapping[str, tuple[int, ...]], samples: int) -> list[Tap]:
    """Return the outputs of a graph's layers in order, except that of the last layer.

    Args:
        model: the graph.
        shapes: the shapes of its values in one run.
        samples: the number of samples in a run.
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
    """Pair layers of the student with layers of the teacher.

    Consecutive layers with the same spatial size are a stage. The layers in the middle and at the
    end of each stage of the student are paired. Each gets the layer at the same relative depth
    among the teacher's layers of that spatial size. If there are none, it gets the layer of nearest
    depth among those with as many dimensions.

    Args:
        student: the student's layers.
        teacher: the teacher's layers.
        spatial: pair only layers that have spatial axes.
    """
    pairs: dict[Pair, None] = {}
    for space, stage in groupby(student, key=lambda tap: tap.space):
        if spatial and not space:
            continue
        student_stage = list(stage)
        same_space = [tap for tap in teacher if tap.space == space]
        candidates = same_space or [tap for tap in teacher if len(tap.space) == len(space)]
        for depth_share in _PARTS:
            tap = student_stage[max(0, round(depth_share * len(student_stage)) - 1)]
            if not candidates:
                continue
            if same_space:
                partner = candidates[max(0, round(depth_share * len(candidates)) - 1)]
            else:
                partner = min(candidates, key=lambda layer: abs(layer.depth - tap.depth))
            pairs[tap, partner] = None
    return list(pairs)[-_MOST:]


def _is_layer(node: ir.Node) -> bool:
    weight = operand(node, 1)
    return is_layer(node) and weight is not None and weight.const_value is not None
