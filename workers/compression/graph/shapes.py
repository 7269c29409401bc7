"""Finds the shapes of a graph's values in a run."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.models import place_name
from workers.compression.graph.inference import dimensions, graphs_of, inferred
from workers.compression.graph.load import INLINE_LIMIT, weight_bytes
from workers.compression.graph.pieces import open_graph
from workers.compression.graph.runtime import in_file

_ELEMENTWISE = frozenset({"Add", "Cast", "Clip", "Div", "Identity", "Mul", "Sub"})

Shapes = dict[str, tuple[int, ...]]
"""Shapes by the name of the value; only values with known dimensions."""


def inputs_of(model: ir.Model) -> list[ir.Value]:
    """Return the inputs that a user feeds; old exporters also list weights as inputs."""
    return [value for value in model.graph.inputs if value.const_value is None]


def symbolic(model: ir.Model) -> list[tuple[str, str]]:
    """Return the inputs' dynamic dimensions as (input, dimension) names, in order."""
    return [
        (str(value.name), name)
        for value in inputs_of(model)
        for name, size in zip(dimension_names(value), value.shape or (), strict=True)
        if not isinstance(size, int)
    ]


def dimension_names(value: ir.Value) -> list[str]:
    """Name every dimension of a value; one without a name is called by its place.

    Exporters write ``?`` for every unknown size; such sizes need not be equal.
    """
    return [
        str(size)
        if isinstance(size, int) or _is_name(size.value)
        else place_name(str(value.name), axis)
        for axis, size in enumerate(value.shape or ())
    ]


def _is_name(text: str | None) -> bool:
    return text is not None and any(character.isalnum() for character in text)


def batch_names(model: ir.Model) -> set[str]:
    """Return the dynamic dimensions that count samples: the inputs' first ones."""
    return {
        dimension_names(value)[0]
        for value in inputs_of(model)
        if value.shape and not isinstance(value.shape[0], int)
    }


def sizes_by_weights(model: ir.Model) -> dict[str, int]:
    """Return the sizes of dynamic dimensions of inputs that follow from weights, by name.

    These are the channels that a convolution reads, and the last dimension of a product with a
    weight.
    """
    sizes_found: dict[str, int] = {}
    for value in inputs_of(model):
        names = dimension_names(value)
        for read in _same_shape(value, len(names)):
            for node in read.consumers():
                axis, size = _size_from_weight(node, read, len(names))
                sizes_found |= dict.fromkeys(names[axis : axis + 1], size) if axis else {}
    return {name: sizes_found[name] for _, name in symbolic(model) if name in sizes_found}


def _same_shape(value: ir.Value, rank: int) -> Iterator[ir.Value]:
    """Yield a value and the values that are computed from it element by element."""
    waiting, visited = [value], set[ir.Value]()
    while waiting:
        current = waiting.pop()
        if current in visited:
            continue
        visited.add(current)
        yield current
        for node in current.consumers():
            operands = [v for v in node.inputs if v is not None and v is not current]
            if node.op_type in _ELEMENTWISE and all(_fits_in(v, rank) for v in operands):
                waiting.append(node.outputs[0])


def _fits_in(value: ir.Value, rank: int) -> bool:
    """Return whether a constant has no more dimensions than a given rank."""
    return value.const_value is not None and value.const_value.shape.rank() <= rank


def _size_from_weight(node: ir.Node, value: ir.Value, rank: int) -> tuple[int, int]:
    """Return the axis whose size a node's weight determines, and the size; else zeros."""
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if weight is None or weight.const_value is None or node.inputs[0] is not value:
        return 0, 0
    sizes = weight.const_value.shape.numpy()
    match node.op_type:
        case "Conv":
            return 1, sizes[1] * node.attributes.get_int("group", 1)
        case "MatMul" if len(sizes) >= 2:
            return rank - 1, sizes[-2]
        case "Gemm" if not node.attributes.get_int("transA", 0):
            return 1, sizes[node.attributes.get_int("transB", 0)]
        case _:
            return 0, 0


def sizes_of(model: ir.Model, feeds: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """Return the sizes of the dynamic dimensions in the given arrays.

    Args:
        model: the graph.
        feeds: an array for each input.
    """
    sizes: dict[str, int] = {}
    for value in inputs_of(model):
        sizes.update(zip(dimension_names(value), feeds[str(value.name)].shape, strict=True))
    return {name: sizes[name] for _, name in symbolic(model)}


def concrete(model: ir.Model, sizes: Mapping[str, int]) -> Shapes:
    """Infer all shapes for given sizes of the dynamic dimensions.

    Args:
        model: the graph; not changed.
        sizes: sizes by the names that ``dimension_names`` gives.
    """
    fixed = {
        str(value.name): [
            size if isinstance(size, int) else sizes.get(name)
            for name, size in zip(dimension_names(value), value.shape or (), strict=True)
        ]
        for value in model.graph.inputs
    }
    shapes = _stored(model)
    proto = inferred(model, fixed, outputs=False)
    for graph in graphs_of(proto.graph) if proto is not None else ():
        for value in (*graph.input, *graph.value_info, *graph.output):
            dims = dimensions(value) or []
            static_sizes = [size for size in dims if isinstance(size, int)]
            if value.type.tensor_type.HasField("shape") and len(static_sizes) == len(dims):
                shapes.setdefault(value.name, tuple(static_sizes))
    return shapes


def _stored(model: ir.Model) -> Shapes:
    """Return the shapes of the constants, those in subgraphs included."""
    return {
        str(value.name): tuple(value.const_value.shape.numpy())
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    }


def of_run(model: ir.Model, feeds: Mapping[str, NDArray[Any]]) -> Shapes:
    """Return the shapes of all values; those that cannot be inferred are observed in a run.

    Args:
        model: the graph; not changed.
        feeds: an input array for each input.
    """
    shapes = concrete(model, sizes_of(model, feeds))
    made = [str(value.name) for node in model.graph for value in node.outputs if value.name]
    missing = [name for name in made if name not in shapes]
    return shapes | observed(model, missing, feeds) if missing else shapes


def observed(model: ir.Model, names: Iterable[str], feeds: Mapping[str, NDArray[Any]]) -> Shapes:
    """Run the graph once and return the shapes of its values.

    Args:
        model: the graph; not changed.
        names: names of values of the main graph.
        feeds: an input array for each input.
    """
    probed = model.clone()
    name_set = set(names)
    values = [value for node in probed.graph for value in node.outputs if value.name in name_set]
    if not values or weight_bytes(model) > INLINE_LIMIT:
        return {}
    probed.graph.outputs.extend(v for v in values if v not in probed.graph.outputs)
    with in_file(probed) as path:
        outputs = open_graph(path, len(probed.graph))(feeds, None)
    arrays = {str(value.name): outputs[str(value.name)] for value in values}
    return {name: array.shape for name, array in arrays.items() if isinstance(array, np.ndarray)}
