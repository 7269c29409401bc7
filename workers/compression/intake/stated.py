"""Gives the dynamic dimensions of an uploaded graph the sizes and names that its user states."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import helper

from app.domain.models import InputHint
from app.domain.problems import InvalidModel
from workers.compression.graph.sums import substituted
from workers.compression.graph.writer import write
from workers.compression.intake.sources.hints import FileInput, Shape, settle


def state_inputs(path: Path, hints: Sequence[InputHint]) -> None:
    """Fix or rename dynamic dimensions of a graph's inputs, and where outputs have the same ones.

    Args:
        path: the graph, self-contained; rewritten.
        hints: what the user says of some inputs, by name; or of all, in order.

    Raises:
        InvalidModel: an input is unknown, or has another type or fixed sizes; or one dimension
            gets two sizes.
    """
    proto = onnx.load_model(path, load_external_data=False)
    graph = proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in constants}
    named = [hint.name for hint in hints]
    unknown = [name for name in named if name is not None and name not in inputs]
    if unknown:
        listed = ", ".join(f"'{name[:80]}'" for name in list(inputs)[:20])
        raise InvalidModel(f"'inputs' names '{unknown[0]}'; the model has the inputs {listed}.")
    wanted = [value for name, value in inputs.items() if None in named or name in named]
    file_inputs = [_described(value) for value in wanted]
    specs = settle(file_inputs, hints)
    sizes: dict[str, int | str] = {}
    for stated, spec in zip(file_inputs, specs, strict=True):
        for name, size in zip(stated.shape or (), spec.shape, strict=True):
            if isinstance(name, str) and sizes.setdefault(name, size) != size:
                raise InvalidModel(
                    f"'inputs' gives the dimension '{name[:80]}' two sizes, {sizes[name]} and"
                    f" {size}; in the model it has one."
                )
    for value in [*inputs.values(), *graph.output]:
        _rename(value, sizes)
    del graph.value_info[:]
    write(proto, path, {})


def _described(value: onnx.ValueInfoProto) -> FileInput:
    tensor = value.type.tensor_type
    shape: Shape = [_name(value, axis) for axis in range(len(tensor.shape.dim))]
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return FileInput(value.name, dtype, shape)


def _name(value: onnx.ValueInfoProto, axis: int) -> int | str:
    """Return the size of a dimension, or its name; one without a name is called by its place."""
    dim = value.type.tensor_type.shape.dim[axis]
    return dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}:{axis}"


def _rename(value: onnx.ValueInfoProto, sizes: Mapping[str, int | str]) -> None:
    for axis, dim in enumerate(value.type.tensor_type.shape.dim):
        name = _name(value, axis)
        if isinstance(name, int):
            continue
        size = substituted(name, sizes)
        if isinstance(size, int):
            dim.dim_value = size
        elif size != name:
            dim.dim_param = size
