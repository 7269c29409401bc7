"""The sizes that a graph's values have for one sample."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import _c_api_utils as weightless

from workers.compression.graph import runtime
from workers.compression.graph.load import INLINE_LIMIT, save, weight_bytes

Shapes = dict[str, tuple[int, ...]]
"""By value name; only values whose every dimension is known."""


def inputs_of(model: ir.Model) -> list[ir.Value]:
    """Return what a user feeds: old exporters also list weights among the inputs."""
    return [value for value in model.graph.inputs if value.const_value is None]


def is_tensor(value: ir.Value) -> bool:
    """Return whether a value is a tensor, as far as is known, and no sequence or optional one."""
    return value.type is None or isinstance(value.type, ir.TensorType)


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


def fixed_batch(model: ir.Model) -> int:
    """Return how many samples a graph with a fixed first dimension computes at once, else 1."""
    ends = [*inputs_of(model), *model.graph.outputs]
    first = {value.shape[0] if value.shape else None for value in ends}
    batch = first.pop()
    return batch if not first and isinstance(batch, int) and batch > 0 else 1


def samples_fixed_by_inputs(model: ir.Model) -> int | None:
    """Return how many samples the inputs' first dimensions fix a run to; None where they do not."""
    first = [value.shape[0] for value in inputs_of(model) if value.shape]
    return max((size for size in first if isinstance(size, int)), default=None)


def sizes_of(model: ir.Model, feeds: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """Return the dynamic dimensions' sizes in one sample of the given arrays.

    Args:
        model: whose inputs are fed.
        feeds: an array for each input; the dimensions that count samples become 1.
    """
    found: dict[str, int] = {}
    for value in inputs_of(model):
        found.update(zip(dimension_names(value), feeds[str(value.name)].shape, strict=True))
    found.update(dict.fromkeys(batch_names(model), 1))
    return {name: found[name] for _, name in symbolic(model)}


def infer(model: ir.Model) -> None:
    """Infer types and shapes in place, dynamic dimensions kept as symbols.

    What the file claims of intermediate values is dropped first: it may be wrong. The declared
    inputs stay as they are; outputs gain what was not declared.
    """
    declared = {value: (value.shape, value.type) for value in model.graph.outputs}
    kept = {*model.graph.inputs, *model.graph.outputs}
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for value in node.outputs:
            if value not in kept:
                value.shape = None
    for value, found in _inferred(model):
        value.shape = value.shape if found.shape is None else found.shape
        value.type = found.type or value.type  # sequences too, which onnx_ir's pass forgets
    for value, (shape, kind) in declared.items():
        value.shape = value.shape if shape is None else shape
        value.type = kind or value.type


def _inferred(model: ir.Model) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Yield each value that has a name with the same one in an inferred copy; none if onnx fails.

    onnx sees the graph without the weights, which may be larger than it can be given.
    """
    infer_shapes = partial(onnx.shape_inference.infer_shapes, data_prop=True)
    try:
        proto = weightless.call_onnx_api(infer_shapes, model)
    except Exception:  # noqa: BLE001 (a graph whose shapes onnx cannot tell stays as it is)
        return
    copy = ir.serde.deserialize_model(proto)
    for graph, inferred in zip(model.graphs(), copy.graphs(), strict=True):
        values = ir.convenience.create_value_mapping(inferred)
        for name, value in ir.convenience.create_value_mapping(graph).items():
            if name in values:
                yield value, values[name]


def concrete(model: ir.Model, sizes: Mapping[str, int]) -> Shapes:
    """Infer all shapes for given sizes of the dynamic dimensions.

    Args:
        model: the graph; not changed.
        sizes: by the names that ``dimension_names`` gives.
    """
    fixed = model.clone()
    for value in fixed.graph.inputs:
        names = dimension_names(value)
        known = [
            size if isinstance(size, int) else sizes.get(name)
            for name, size in zip(names, value.shape or (), strict=True)
        ]
        value.shape = ir.Shape(known)
    for value in fixed.graph.outputs:
        value.shape = None
    infer(fixed)
    shapes = {}
    for graph in fixed.graphs():
        for name, value in ir.convenience.create_value_mapping(graph).items():
            if value.const_value is not None:
                shapes[name] = tuple(value.const_value.shape.numpy())
            elif value.shape is not None and value.shape.is_static() and is_tensor(value):
                shapes[name] = value.shape.numpy()
    return shapes


def of_run(
    model: ir.Model, feeds: Mapping[str, NDArray[Any]], sizes: Mapping[str, int] | None = None
) -> Shapes:
    """Return the shapes of all values, observed in a run where inference does not find them.

    Args:
        model: the graph; not changed.
        feeds: an input array for each input.
        sizes: of the dynamic dimensions in ``feeds``. Default: those of one sample.
    """
    shapes = concrete(model, sizes_of(model, feeds) if sizes is None else sizes)
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
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "probed.onnx"
        save(probed, path)
        outputs = runtime.run(runtime.open_session(path), feeds)
    found = {str(value.name): outputs[str(value.name)] for value in wanted}
    return {name: array.shape for name, array in found.items() if isinstance(array, np.ndarray)}
