"""Finds the nodes of a graph that compute with numbers outside the range of float16.

Numbers beyond 65,504 become infinite, and numbers below 3e-8 become zero. A mask of -3.4e38 then
turns a row that is all padding into NaN, and an epsilon of 1e-12 no longer prevents a division by
zero. Constants are checked directly; computed values are observed on data.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from workers.compression.graph.precision import bodies
from workers.compression.looking.calibrate import observe
from workers.compression.samples.context import Context

_LARGEST = float(np.finfo(np.float16).max)
_VANISHING = 2.0**-25
"""The largest number that float16 rounds to zero."""

_MARGIN = 4.0
"""The factor by which values of other samples may exceed the observed ones."""

_LOOKED_AT = 32
"""The number of samples that values are observed on."""

_LAYOUT = frozenset(
    {"Cast", "Concat", "ConstantOfShape", "Expand", "Flatten", "Gather", "Identity", "Pad",
     "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where"}
)  # fmt: skip
_KEEPS_LARGE = _LAYOUT | {"Add", "Max", "Min", "Mul", "Neg", "Sub", "Sum"}
_KEEPS_SMALL = _LAYOUT | {"Add", "Clip", "Max", "Pow", "Reciprocal", "Sqrt"}
"""Operators whose result can be as large, or as small, as a number that they read."""

_COMPARES = {
    "Clip": (1, 2),
    **dict.fromkeys(
        ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min"), (0, 1)
    ),
}
"""The inputs of operators that are only compared: infinity can replace a large number there."""


def out_of_range(model: ir.Model, context: Context) -> dict[str, str]:
    """Return the nodes that must stay in float32, by name, each with the reason.

    Args:
        model: the graph, with inferred types.
        context: the data that values are observed on.
    """
    return _by_data(model, context) | _by_constants(model)


def _by_data(model: ir.Model, context: Context) -> dict[str, str]:
    """Check the range of the main graph's values on samples."""
    samples = context.samples_or_example(_LOOKED_AT)
    if not samples:
        return {}
    values = [value for value in _values(model) if value.dtype == ir.DataType.FLOAT]
    names = [str(value.name) for value in values]
    observed = observe(model, names, samples, context.threads, lambda _: None, histograms=False)
    excluded: dict[str, str] = {}
    for value in values:
        range_seen = observed[str(value.name)]
        magnitude = max(-range_seen.low, range_seen.high) if range_seen.finite else 0.0
        if magnitude * _MARGIN > _LARGEST:
            reason = (
                f"numbers reach {magnitude:.2g} in it on the data, and float16 ends at"
                f" {_LARGEST:,.0f}"
            )
            excluded |= {str(node.name): reason for node in _neighbours(value)}
    return excluded


def _values(model: ir.Model) -> Iterator[ir.Value]:
    """Yield the tensors of the main graph that are computed or fed."""
    yield from (value for value in model.graph.inputs if value.const_value is None)
    for node in model.graph:
        for value in node.outputs:
            if value.name and isinstance(value.type, ir.TensorType):
                yield value


def _neighbours(value: ir.Value) -> list[ir.Node]:
    """Return the producer and the consumers of a value."""
    maker = value.producer()
    return [*([maker] if maker is not None else []), *value.consumers()]


def _by_constants(model: ir.Model) -> dict[str, str]:
    """Propagate numbers outside of float16's range from the constants through the graph."""
    large = _propagated(model, _KEEPS_LARGE, _COMPARES, lambda number: abs(number) > 1)
    small = _propagated(model, _KEEPS_SMALL, {}, lambda number: abs(number) < 1)
    return small | large


def _propagated(
    model: ir.Model,
    passing_on: frozenset[str],
    unharmed: Mapping[str, Sequence[int]],
    is_followed: Callable[[float], bool],
) -> dict[str, str]:
    """Return the nodes that read unrepresentable numbers, each with the reason.

    Args:
        model: the graph.
        passing_on: operators whose results can be unrepresentable too.
        unharmed: by operator, the inputs that may be unrepresentable.
        is_followed: whether a number is considered: the large ones, or the small ones.
    """
    numbers = {
        value: number
        for graph in model.graphs()
        for value in graph.initializers.values()
        if (number := _unrepresentable(value.const_value)) is not None and is_followed(number)
    }
    excluded: dict[str, str] = {}
    size_before = -1
    while size_before < len(excluded) + len(numbers):
        size_before = len(excluded) + len(numbers)
        for node in model.graph.all_nodes():
            read = [v for i, v in enumerate(node.inputs) if i not in unharmed.get(node.op_type, ())]
            read += [value for graph in bodies(node) for value in graph.outputs]
            attribute_number = _unrepresentable(node.attributes.get_tensor("value"))
            numbers_read = [numbers[value] for value in read if value in numbers]
            if attribute_number is not None and is_followed(attribute_number):
                numbers_read.append(attribute_number)
            if not numbers_read:
                continue
            excluded[str(node.name)] = (
                f"it works with {numbers_read[0]:.2g}, which float16 does not have"
            )
            if node.op_type in passing_on:
                numbers |= {
                    value: numbers_read[0] for value in node.outputs if value not in numbers
                }
    return excluded


def _unrepresentable(tensor: ir.TensorProtocol | None) -> float | None:
    """Return the largest number of a constant if float16 makes it infinite, or all numbers zero."""
    if tensor is None or tensor.dtype != ir.DataType.FLOAT:
        return None
    array = tensor.numpy().reshape(-1)
    magnitudes = np.where(np.isfinite(array), np.abs(array), 0)
    largest = float(magnitudes.max(initial=0.0))
    if 0 < largest <= _VANISHING or largest > _LARGEST:
        return float(array[magnitudes.argmax()])
    return None
