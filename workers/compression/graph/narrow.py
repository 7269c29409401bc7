"""Weights that are stored in half precision and are float32 in memory.

A graph that was uploaded in half precision computes in float32 here, so that every method works on
it. Its file should not become twice as large for that. So a weight is stored in the type of the
upload, with a Cast after it that onnxruntime computes once, when it opens the session.

Where most of an upload's constants are float32, only what half precision holds exactly is stored in
it: the weights that were half stay half, and no other weight is rounded.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.editor import Editor, constant
from workers.compression.graph.operators import operand, operator_of

_NARROW = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_STORED = "planish.stored"
"""The entry of a model's metadata, in memory alone, that names the narrow type of its weights."""
_STORED_EXACTLY = "planish.stored_exactly"
"""The entry that names the narrow type of those constants alone whose values it holds exactly."""

_LEAST = 1 << 10
"""Bytes above which a weight is stored narrow."""


def stored_type(model: ir.Model) -> ir.DataType | None:
    """Return the narrow type that a graph's weights are stored in, None where there is none."""
    return _type_named(model, _STORED)


def mark_stored(model: ir.Model, dtype: ir.DataType) -> None:
    """Mark a graph so that its weights are stored in a narrow type."""
    model.metadata_props[_STORED] = dtype.name


def bytes_by_type(model: ir.Model) -> dict[ir.DataType, int]:
    """Return the bytes of a graph's constants in each floating-point type."""
    sizes: dict[ir.DataType, int] = {}
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.dtype.is_floating_point():
                sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.nbytes
    return sizes


def mark_as_before(model: ir.Model, sizes: Mapping[ir.DataType, int]) -> None:
    """Mark a graph so that it is stored as it was before its constants became float32.

    Args:
        model: the graph, marked in place.
        sizes: what ``bytes_by_type`` returned of it before.
    """
    narrow = max(_NARROW & sizes.keys(), key=lambda dtype: (sizes[dtype], dtype), default=None)
    if narrow is None:
        return
    key = _STORED if sizes[narrow] == max(sizes.values()) else _STORED_EXACTLY
    model.metadata_props[key] = narrow.name


def stored_as(model: ir.Model, weight: NDArray[Any]) -> np.dtype[Any]:
    """Return the type that a weight or bias of a graph has in its file; see ``narrowed``."""
    dtype = stored_type(model) or _type_named(model, _STORED_EXACTLY)
    if dtype is None or weight.dtype != np.float32 or weight.nbytes <= _LEAST:
        return weight.dtype
    narrow = _rounded(weight, dtype)
    back = narrow.astype(np.float32)
    held = np.isfinite(back).all() if stored_type(model) else np.array_equal(back, weight)
    return narrow.dtype if held else weight.dtype


def bytes_in_file(model: ir.Model, *weights: NDArray[Any]) -> int:
    """Return the bytes that weights and biases of a graph take in its file."""
    return sum(weight.size * stored_as(model, weight).itemsize for weight in weights)


def widen(model: ir.Model) -> None:
    """Replace weights in a narrow type and their Casts to float32 by float32 weights, in place."""
    for key in (_STORED, _STORED_EXACTLY):
        model.metadata_props.pop(key, None)
    sizes, widened = bytes_by_type(model), False
    for graph in model.graphs():
        for name, value in list(graph.initializers.items()):
            casts = value.consumers()
            fixed = value.is_graph_input() or value.is_graph_output()
            if value.dtype not in _NARROW or fixed or not casts or not all(map(_widens, casts)):
                continue
            widened = True
            wide = _wide(value, str(casts[0].outputs[0].name))
            for cast in casts:
                cast.outputs[0].replace_all_uses_with(wide)
                assert isinstance(cast.graph, ir.Graph)
                cast.graph.remove(cast, safe=True)
            del graph.initializers[name]
            graph.register_initializer(wide)
    if widened:
        mark_as_before(model, sizes)


def narrowed(model: ir.Model) -> ir.Model:
    """Return a graph as it is stored: the inverse of ``widen``.

    Weights, biases and all constants that still have values of the narrow type are stored narrow.
    A weight that was trained or folded is rounded to that type if most of the graph was. Numbers
    that the type cannot hold, scales of quantization and codebooks stay float32.
    """
    whole, exactly = stored_type(model), _type_named(model, _STORED_EXACTLY)
    dtype = whole or exactly
    if dtype is None:
        return model
    copy = model.clone()
    edit = Editor(copy)
    weights = _weights(copy) if whole else set[ir.Value]()
    for value in list(copy.graph.initializers.values()):
        tensor = value.const_value
        fixed = value.is_graph_input() or value.is_graph_output() or not value.uses()
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or fixed or tensor.nbytes <= _LEAST:
            continue
        array = constant(value)
        narrow = _rounded(array, dtype)
        back = narrow.astype(np.float32)
        if np.array_equal(back, array) or (value in weights and np.isfinite(back).all()):
            _store(edit, value, narrow)
    return copy


def _type_named(model: ir.Model, key: str) -> ir.DataType | None:
    name = model.metadata_props.get(key)
    return None if name is None else ir.DataType[name]


def _widens(node: ir.Node) -> bool:
    output = node.outputs[0]
    target = node.attributes.get_int("to", 0) if node.op_type == "Cast" else 0
    return target == ir.DataType.FLOAT and not output.is_graph_output()


def _wide(value: ir.Value, name: str) -> ir.Value:
    """Return a float32 initializer; external data is read only when it is needed."""
    tensor = value.const_value
    assert tensor is not None
    shape = ir.Shape(tensor.shape.numpy())

    def read() -> ir.TensorProtocol:
        return ir.Tensor(tensor.numpy().astype(np.float32), name=name)

    external = isinstance(tensor, ir.ExternalTensor)
    wide = ir.LazyTensor(read, ir.DataType.FLOAT, shape, name=name) if external else read()
    kind = ir.TensorType(ir.DataType.FLOAT)
    return ir.Value(name=name, const_value=wide, shape=shape, type=kind)


def _weights(model: ir.Model) -> set[ir.Value]:
    """Return the learned constants of operators: weights and biases."""
    learned = set[ir.Value]()
    for node in model.graph.all_nodes():
        operator = operator_of(node)
        slots = (*operator.weights, *operator.biases) if operator is not None else ()
        learned.update(value for slot in slots if (value := operand(node, slot)) is not None)
    return learned


def _rounded(array: NDArray[np.float32], dtype: ir.DataType) -> NDArray[np.generic]:
    with np.errstate(over="ignore"):
        narrow: NDArray[np.generic] = array.astype(dtype.numpy())
    return narrow


def _store(edit: Editor, value: ir.Value, narrow: NDArray[np.generic]) -> None:
    """Replace a float32 constant by a narrow one and a Cast, under its name."""
    name = str(value.name)
    del edit.graph.initializers[name]
    stored = edit.constant(f"{name}_stored", narrow)
    cast = edit.node("Cast", [stored], f"{name}_cast", to=ir.DataType.FLOAT)
    wide = cast.outputs[0]
    value.replace_all_uses_with(wide)
    value.name, wide.name = None, name
    wide.shape, wide.type = value.shape, value.type
    edit.insert_after(stored, [cast])
