"""The sizes that a graph's values have in a run."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.inference import dimensions, graphs_of, inferred
from workers.compression.graph.load import INLINE_LIMIT, weight_bytes
from workers.compression.graph.pieces import open_graph
from workers.compression.graph.runtime import in_file

Shapes = dict[str, tuple[int, ...]]
"""By value name; only values whose every dimension is known."""


def inputs_of(model: ir.Model) -> list[ir.Value]:
    """Return what a user feeds: old exporters also list weights among the inputs."""
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
    """Name every dimension of a value; one without a name is called ``<value>_<axis>``.

    Exporters that write ``?`` for any unknown size do not mean that they are all equal.
    """
    return [
        str(size) if isinstance(size, int) or _is_name(size.value) else f"{value.name}_{axis}"
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


def sizes_of(model: ir.Model, feeds: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """Return the dynamic dimensions' sizes in the given arrays.

    Args:
        model: whose inputs are fed.
        feeds: an array for each input.
    """
    found: dict[str, int] = {}
    for value in inputs_of(model):
        found.update(zip(dimension_names(value), feeds[str(value.name)].shape, strict=True))
    return {name: found[name] for _, name in symbolic(model)}


def concrete(model: ir.Model, sizes: Mapping[str, int]) -> Shapes:
    """Infer all shapes for given sizes of the dynamic dimensions.

    Args:
        model: the graph; not changed.
        sizes: by the names that ``dimension_names`` gives.
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
            known = [size for size in dims if isinstance(size, int)]
            if value.type.tensor_type.HasField("shape") and len(known) == len(dims):
                shapes.setdefault(value.name, tuple(known))
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
    """Return the shapes of all values, observed in a run where inference does not find them.

    Args:
        model: the graph; not changed.
        feeds: an input array for each input.
    """
    shapes = concrete(model, sizes_of(model, feeds))
    made = [str(value.name) for node in model.graph for value in node.outputs if value.name]
    missing = [name for name in made if name not in shapes]
    return shapes | observed(model, missing, feeds) if missing else shapes


def observed(model: ir.Model, names: Iterable[str], feeds: Mapping[str, NDArray[Any]]) -> Shapes:
    """Run the graph once and return the shapes that its values really had.

    Args:
        model: the graph; not changed.
        names: values of the main graph.
        feeds: an input array for each input.
    """
    probed = model.clone()
    asked = set(names)
    wanted = [value for node in probed.graph for value in node.outputs if value.name in asked]
    if not wanted or weight_bytes(model) > INLINE_LIMIT:
        return {}
    probed.graph.outputs.extend(v for v in wanted if v not in probed.graph.outputs)
    with in_file(probed) as path:
        outputs = open_graph(path, len(probed.graph))(feeds, None)
    found = {str(value.name): outputs[str(value.name)] for value in wanted}
    return {name: array.shape for name, array in found.items() if isinstance(array, np.ndarray)}
