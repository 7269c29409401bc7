"""What a graph costs once units are removed, counted without cutting it."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Literal, assert_never

import numpy as np
import onnx_ir as ir

from workers.compression.graph.operators import operator_of
from workers.compression.graph.stats import weights_of
from workers.compression.methods.prune.groups import Analysis, Removed

Cost = Callable[[Removed], float]
"""From removed units to what is left."""


def cost_of(
    what: Literal["macs", "parameters", "size", "channels"],
    model: ir.Model,
    analysis: Analysis,
    shapes: Mapping[str, tuple[int, ...]],
) -> Cost:
    """Return a function that counts exactly what the cut graph will have.

    Args:
        what: multiply-accumulates of one sample, parameters, bytes of constants, or channels that
            can go.
        model: the whole graph.
        analysis: what hangs together.
        shapes: of the graph's values for one sample.
    """
    match what:
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
            assert_never(what)


def _macs(model: ir.Model, analysis: Analysis, shapes: Mapping[str, tuple[int, ...]]) -> Cost:
    nodes = [(n, o.macs) for n in model.graph if (o := operator_of(n)) is not None and o.macs]

    def cost(removed: Removed) -> float:
        def left(value: ir.Value | None) -> tuple[int, ...] | None:
            return shape_left(value, analysis, shapes, removed)

        total = 0
        for node, macs in nodes:
            output = left(node.outputs[0])
            if output is not None:
                total += macs(node, [left(value) for value in node.inputs], output) or 0
        return float(total)

    return cost


def shape_left(
    value: ir.Value | None,
    analysis: Analysis,
    shapes: Mapping[str, tuple[int, ...]],
    removed: Removed,
) -> tuple[int, ...] | None:
    """Return a value's shape once units are removed, None where it is not known."""
    name = str(value.name) if value is not None else ""
    whole = shapes.get(name)
    if whole is None or name not in analysis.rows:
        return whole
    sizes = zip(whole, analysis.shapes[name], range(len(whole)), strict=True)
    return tuple(
        now * analysis.size(name, axis, removed) // analysed for now, analysed, axis in sizes
    )


def _elements(model: ir.Model, analysis: Analysis, *, by_bytes: bool) -> Cost:
    if by_bytes:
        tensors = {str(v.name): v.const_value for v in model.graph.initializers.values()}
    else:
        found = [weight for node in model.graph for weight in weights_of(node)]
        tensors = {str(weight.value.name): weight.tensor for weight in found}
    sized = [
        (name, tensor.shape.numpy(), tensor.nbytes / max(tensor.size, 1) if by_bytes else 1)
        for name, tensor in tensors.items()
        if tensor is not None
    ]

    def cost(removed: Removed) -> float:
        return sum(
            each * prod(analysis.size(name, axis, removed) for axis in range(len(shape)))
            if name in analysis.rows
            else each * prod(shape)
            for name, shape, each in sized
        )

    return cost
