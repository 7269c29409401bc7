"""Compute what depends on constants alone."""

import tempfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph import runtime
from workers.compression.graph.load import save
from workers.compression.graph.shapes import infer

_SMALL = {"Cast": 4 << 10}
"""Bytes up to which a result may be larger than the constants that it replaces: sizes and shapes
that are cast, not weights that are stored in a narrow type."""

_SMALL_ELSE = 1 << 20
"""The same for other operators."""

_GROWTH = 64 << 20
"""Bytes that all results together may add."""

_LARGE = 256 << 20
"""Bytes that inputs and outputs of one folded node may take."""

_KEPT = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Constant", "Dropout",
     "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial",
     "Bernoulli", "If", "Loop", "Scan"}
)  # fmt: skip

_Array = NDArray[Any]


def fold_constants(model: ir.Model) -> int:
    """Replace nodes whose inputs are all constant by their results, in subgraphs too.

    1. Values are onnxruntime's own: each node is run alone.
    2. A Shape or Size of a value whose dimensions are all known is a constant, and so are known
       dimensions that are picked out of a Shape.
    3. A result's size must be known before it is computed. Past 1 MiB it must not outgrow the
       constants that it replaces, and all together must not add more than 64 MiB: folding needs
       little memory and hardly makes the file grow. A float16 weight stays as it is stored.
    4. Random operators, quantization and nodes with subgraphs stay.
    5. A node that makes a graph output, strings or sequences stays.
    """
    infer(model)
    folded, growth = 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
            if growth > _GROWTH or not isinstance(node.graph, ir.Graph):
                continue
            replaced = _replaced_bytes(node)
            arrays = _result(node, replaced, model, Path(scratch) / "node.onnx")
            if arrays is not None:
                growth += max(0, sum(array.nbytes for array in arrays) - replaced)
                _replace(node, arrays, node.graph)
                folded += 1
    return folded


def _result(node: ir.Node, replaced: int, model: ir.Model, path: Path) -> list[_Array] | None:
    """Return a node's outputs when it may be folded, else None."""
    if node.domain != "" or any(value.is_graph_output() for value in node.outputs):
        return None
    if (sizes := _picked_sizes(node)) is not None:
        return [sizes]
    if known := _OF_SHAPE.get(node.op_type):
        dims = node.inputs[0].shape if node.inputs[0] is not None else None
        return [known(node, dims.numpy())] if dims is not None and dims.is_static() else None
    constants = {str(v.name): v.const_value for v in node.inputs if v is not None}
    tensors = {name: tensor for name, tensor in constants.items() if tensor is not None}
    if node.op_type in _KEPT or not tensors or len(tensors) < len(constants):
        return None
    given = sum(tensor.nbytes for tensor in tensors.values())
    return _run(node, tensors, model, path) if _affordable(node, given, replaced) else None


def _picked_sizes(node: ir.Node) -> _Array | None:
    """Return the dimensions that a Gather picks out of a Shape when these are known."""
    shape = node.inputs[0].producer() if node.op_type == "Gather" and node.inputs[0] else None
    value = shape.inputs[0] if shape is not None and shape.op_type == "Shape" else None
    index = node.inputs[1] if value is not None else None
    picked = ir.convenience.get_const_tensor(index) if index is not None else None
    if shape is None or value is None or value.shape is None or picked is None or shape.attributes:
        return None
    places = picked.numpy()
    if places.size == 0 or np.abs(places + 0.5).max() > len(value.shape):
        return None
    sizes = [value.shape[place] for place in places.reshape(-1).tolist()]
    if not all(isinstance(size, int) for size in sizes):
        return None
    return np.asarray(sizes, np.int64).reshape(places.shape)


def _affordable(node: ir.Node, given: int, replaced: int) -> bool:
    """Return whether the outputs' size is known before they are computed, and allowed."""
    sizes = [_bytes(value) for value in node.outputs]
    result = sum(size for size in sizes if size is not None)
    small = _SMALL.get(node.op_type, _SMALL_ELSE)
    return None not in sizes and result <= max(small, replaced) and result + given <= _LARGE


def _replaced_bytes(node: ir.Node) -> int:
    """Return the bytes of the constants that nothing but this node uses."""
    values = {value for value in node.inputs if value is not None and len(value.uses()) == 1}
    return sum(v.const_value.nbytes for v in values if v.const_value is not None)


def _bytes(value: ir.Value) -> int | None:
    """Return the bytes of a value's elements, None unless all its dimensions are known."""
    if value.dtype in {None, ir.DataType.STRING} or value.shape is None:
        return None
    if not value.shape.is_static():
        return None
    return int(prod(value.shape.numpy()) * value.dtype.itemsize) if value.dtype else None


def _run(
    node: ir.Node, constants: dict[str, ir.TensorProtocol], model: ir.Model, path: Path
) -> list[_Array] | None:
    """Run one node in a graph of its own; None when onnxruntime cannot."""
    values = {name: _constant(name, tensor) for name, tensor in constants.items()}
    single = ir.Node(
        node.domain,
        node.op_type,
        [None if v is None else values[str(v.name)] for v in node.inputs],
        list(node.attributes.values()),
        num_outputs=len(node.outputs),
    )
    for mine, theirs in zip(single.outputs, node.outputs, strict=True):
        mine.name, mine.type = theirs.name, theirs.type
    graph = ir.Graph(
        [],
        single.outputs,
        nodes=[single],
        initializers=list(values.values()),
        opset_imports=dict(model.graph.opset_imports),
        name="fold",
    )
    save(ir.Model(graph, ir_version=model.ir_version), path)
    try:
        outputs = runtime.run(runtime.open_session(path), {})
    except Exception:  # noqa: BLE001 (what cannot be run here is left to the run itself)
        return None
    return [outputs[str(value.name)] for value in node.outputs]


def _shape(node: ir.Node, dims: tuple[int, ...]) -> _Array:
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(dims))
    return np.asarray(dims[start:end], dtype=np.int64)


def _size(_node: ir.Node, dims: tuple[int, ...]) -> _Array:
    return np.asarray(prod(dims), dtype=np.int64)


_OF_SHAPE: dict[str, Callable[[ir.Node, tuple[int, ...]], _Array]] = {
    "Shape": _shape,
    "Size": _size,
}


def _replace(node: ir.Node, arrays: list[_Array], graph: ir.Graph) -> None:
    """Put initializers with the results, under the outputs' names, in a node's place."""
    for value, array in zip(node.outputs, arrays, strict=True):
        constant = _constant(str(value.name), ir.tensor(array, name=value.name))
        value.replace_all_uses_with(constant)
        graph.register_initializer(constant)
    graph.remove(node, safe=True)


def _constant(name: str, tensor: ir.TensorProtocol) -> ir.Value:
    shape = ir.Shape(tensor.shape.numpy())
    return ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=shape)
