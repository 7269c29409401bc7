"""Counts the cost of a graph without some units, before the graph is cut."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Literal, assert_never

import numpy as np
import onnx_ir as ir

from workers.compression.graph.operators import operator_of
from workers.compression.graph.weights import weights_of
from workers.compression.methods.prune.groups import Analysis, Removed

Cost = Callable[[Removed], float]
"""The cost of a graph as a function of the removed units."""


def cost_of(
    measure: Literal["macs", "parameters", "size", "channels"],
    model: ir.Model,
    analysis: Analysis,
    shapes: Mapping[str, tuple[int, ...]],
) -> Cost:
    """Return a function that counts the exact cost of the cut graph.

    Args:
        measure: the cost: multiply-accumulates of one sample, parameters, bytes of constants, or
            removable channels.
        model: the uncut graph.
        analysis: the coupled units of the graph.
        shapes: the shapes of the graph's values for one sample.
    """
    match measure:
        case "macs":
            return _macs(model, analysis, shapes)
        case "parameters":
            return _elements(model, analysis, by_bytes=False)
        case "size":
            return _elements(model, analysis, by_bytes=True)
        case "channels":
            units = np.concatenate([np.zeros(0, np.int64), *(g.units for g in analysis.groups)])
            return lambda removed: float(np.count_nonzero(~removed[units]))
        case _:
            assert_never(measure)


def _macs(model: ir.Model, analysis: Analysis, shapes: Mapping[str, tuple[int, ...]]) -> Cost:
    nodes = [(n, o.macs) for n in model.graph if (o := operator_of(n)) is not None and o.macs]

    def cost(removed: Removed) -> float:
        def shape(value: ir.Value | None) -> tuple[int, ...] | None:
            return shape_left(value, analysis, shapes, removed)

        total = 0
        for node, macs in nodes:
            output = shape(node.outputs[0])
            if output is not None:
                total += macs(node, [shape(value) for value in node.inputs], output) or 0
        return float(total)

    return cost


def shape_left(
    value: ir.Value | None,
    analysis: Analysis,
    shapes: Mapping[str, tuple[int, ...]],
    removed: Removed,
) -> tuple[int, ...] | None:
    """Return a value's shape once units are removed; None if it is unknown."""
    name = str(value.name) if value is not None else ""
    shape = shapes.get(name)
    if shape is None or name not in analysis.rows:
        return shape
    sizes = zip(shape, analysis.shapes[name], range(len(shape)), strict=True)
    return tuple(
        size * analysis.size(name, axis, removed) // max(analysed, 1)
        for size, analysed, axis in sizes
    )


def _elements(model: ir.Model, analysis: Analysis, *, by_bytes: bool) -> Cost:
    if by_bytes:
        tensors = {str(v.name): v.const_value for v in model.graph.initializers.values()}
    else:
        weights = [weight for node in model.graph for weight in weights_of(node)]
        tensors = {str(weight.value.name): weight.tensor for weight in weights}
    sized = [
        (name, tensor.shape.numpy(), tensor.nbytes / max(tensor.size, 1) if by_bytes else 1)
        for name, tensor in tensors.items()
        if tensor is not None
    ]

    def cost(removed: Removed) -> float:
        return sum(
            element_cost * prod(analysis.size(name, axis, removed) for axis in range(len(shape)))
            if name in analysis.rows
            else element_cost * prod(shape)
            for name, shape, element_cost in sized
        )

    return cost
