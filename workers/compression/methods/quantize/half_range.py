"""Which nodes of a graph compute with numbers that half precision does not have.

Numbers beyond 65,504 become infinite, those below 3e-8 zero. A mask of -3.4e38 then makes NaN of a
row that is all padding, and an epsilon of 1e-12 no longer keeps a division from zero. Constants
tell, whatever data was seen; of computed values the data tells.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from workers.compression.graph.precision import bodies
from workers.compression.looking.calibrate import observe
from workers.compression.samples.context import Context

_LARGEST = float(np.finfo(np.float16).max)
_VANISHING = 2.0**-25
"""The largest number that half rounds to zero."""

_MARGIN = 4.0
"""By how much other samples may exceed those that were looked at."""

_LOOKED_AT = 32
"""Samples."""

_LAYOUT = frozenset(
    {"Cast", "Concat", "ConstantOfShape", "Expand", "Flatten", "Gather", "Identity", "Pad",
     "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where"}
)  # fmt: skip
_KEEPS_LARGE = _LAYOUT | {"Add", "Max", "Min", "Mul", "Neg", "Sub", "Sum"}
_KEEPS_SMALL = _LAYOUT | {"Add", "Clip", "Max", "Pow", "Reciprocal", "Sqrt"}
"""Operators whose result may be as large, or as small, as the number that they read."""

_COMPARES = {
    "Clip": (1, 2),
    **dict.fromkeys(
        ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min"), (0, 1)
    ),
}
"""Where a number beyond all others is only compared: infinity does as well."""


def out_of_range(model: ir.Model, context: Context) -> dict[str, str]:
    """Return the nodes that must stay in float32, by name, each with the reason.

    Args:
        model: the graph, its types inferred.
        context: the data to look at.
    """
    return _by_data(model, context) | _by_constants(model)


def _by_data(model: ir.Model, context: Context) -> dict[str, str]:
    """Judge the values of the main graph by what they hold on samples."""
    samples = context.seen(_LOOKED_AT)
    if not len(samples):
        return {}
    values = [value for value in _values(model) if value.dtype == ir.DataType.FLOAT]
    names = [str(value.name) for value in values]
    seen = observe(model, names, samples, context.threads, lambda _: None, histograms=False)
    left: dict[str, str] = {}
    for value in values:
        found = seen[str(value.name)]
        reach = max(-found.low, found.high) if found.finite else 0.0
        if reach * _MARGIN > _LARGEST:
            reason = f"numbers reach {reach:.2g} in it on the data: half ends at {_LARGEST:,.0f}"
            left |= {str(node.name): reason for node in _around(value)}
    return left


def _values(model: ir.Model) -> Iterator[ir.Value]:
    """Yield the tensors of the main graph that are computed or fed."""
    yield from (value for value in model.graph.inputs if value.const_value is None)
    for node in model.graph:
        for value in node.outputs:
            if value.name and isinstance(value.type, ir.TensorType):
                yield value


def _around(value: ir.Value) -> list[ir.Node]:
    """Return the nodes that make and read a value."""
    maker = value.producer()
    return [*([maker] if maker is not None else []), *value.consumers()]


def _by_constants(model: ir.Model) -> dict[str, str]:
    """Follow numbers that half does not have from the constants as far as they may last."""
    large = _followed(model, _KEEPS_LARGE, _COMPARES, lambda number: abs(number) > 1)
    small = _followed(model, _KEEPS_SMALL, {}, lambda number: abs(number) < 1)
    return small | large


def _followed(
    model: ir.Model,
    handing_on: frozenset[str],
    unharmed: Mapping[str, Sequence[int]],
    followed: Callable[[float], bool],
) -> dict[str, str]:
    """Return the nodes that read odd numbers, each with the reason to leave it in float32.

    Args:
        model: the graph.
        handing_on: operators whose results are followed too.
        unharmed: inputs of operators that may read them.
        followed: says which odd numbers.
    """
    numbers = {
        value: number
        for graph in model.graphs()
        for value in graph.initializers.values()
        if (number := _odd(value.const_value)) is not None and followed(number)
    }
    left: dict[str, str] = {}
    before = -1
    while before < len(left) + len(numbers):
        before = len(left) + len(numbers)
        for node in model.graph.all_nodes():
            read = [v for i, v in enumerate(node.inputs) if i not in unharmed.get(node.op_type, ())]
            read += [value for graph in bodies(node) for value in graph.outputs]
            made = _odd(node.attributes.get_tensor("value"))
            seen = [numbers[value] for value in read if value in numbers]
            seen += [made] if made is not None and followed(made) else []
            if not seen:
                continue
            left[str(node.name)] = f"it works with {seen[0]:.2g}, which half does not have"
            if node.op_type in handing_on:
                numbers |= {value: seen[0] for value in node.outputs if value not in numbers}
    return left


def _odd(tensor: ir.TensorProtocol | None) -> float | None:
    """Return a number of a constant that half makes infinite, or the largest if all become zero."""
    if tensor is None or tensor.dtype != ir.DataType.FLOAT:
        return None
    array = tensor.numpy().reshape(-1)
    magnitudes = np.where(np.isfinite(array), np.abs(array), 0)
    largest = float(magnitudes.max(initial=0.0))
    if 0 < largest <= _VANISHING or largest > _LARGEST:
        return float(array[magnitudes.argmax()])
    return None
