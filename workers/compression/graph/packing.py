"""Lossless packing of constants: they take fewer bytes in the file than in memory.

There are two forms, which may be combined. Each consists of standard operators on constants, which
onnxruntime computes once, when it opens the session. So a run takes as long as with the constant
itself.

1. Numbers on a grid: all are integer multiples, up to 7 or 127, of one step per channel. The
   multiples are stored in four or eight bits: ``Mul(Cast(integers), steps)``.
2. Many zeros: each nonzero value is stored with its distance from the previous one, in four or
   eight bits. Where the distance is too long, an explicit zero is stored in between.
   ``Reshape(ScatterElements(ConstantOfShape(size), CumSum(distances) - 1, values), shape)``. A
   negative zero loses its sign.
"""

from collections.abc import Iterable
from math import prod

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.editor import Editor, constant, graph_of
from workers.compression.graph.forms import LEAST, Array, Grid, Sparse, smallest, spread

_OPSET = 13
"""The first opset in which all these operators take the stored types."""

_PACKED = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT8, ir.DataType.UINT8})
"""The types of constants that may be packed."""

_INTEGERS = frozenset({ir.DataType.INT8, ir.DataType.UINT8})

_BUDGET = 1 << 30
"""The most bytes of unpacked sparse constants of a graph, as an upload may state any size."""


def packed(model: ir.Model) -> ir.Model:
    """Return a graph whose constants are stored in the smallest of these forms.

    Returns the graph itself where packing saves nothing.
    """
    opset = model.graph.opset_imports.get("", 0)
    if opset < _OPSET:
        return model
    forms_by_name = {
        name: forms
        for name, value in model.graph.initializers.items()
        if _may_be_packed(value) and (forms := smallest(constant(value), opset)) is not None
    }
    if not forms_by_name:
        return model
    copy = model.clone()
    write = _Packer(copy)
    for name, (grid, sparse) in forms_by_name.items():
        write.replace(copy.graph.initializers[name], grid, sparse)
    write.edit.remove_unused()
    return copy


def unpack(model: ir.Model, nodes: Iterable[ir.Node] | None = None) -> None:
    """Restore the constants that ``packed`` has packed, in place.

    Nodes of another form, or with impossible positions, stay unchanged.

    Args:
        model: the graph.
        nodes: the last nodes of the constants to restore; None for all of them.
    """
    budget = _BUDGET
    for node in list(model.graph if nodes is None else nodes):
        if (array := _spread(node, budget)) is not None:
            budget -= array.nbytes
        elif (array := _multiplied(node)) is None:
            continue
        output = node.outputs[0]
        tensor = ir.Tensor(array, name=output.name)
        value = ir.Value(
            name=output.name, const_value=tensor, shape=tensor.shape,
            type=ir.TensorType(tensor.dtype),
        )  # fmt: skip
        output.replace_all_uses_with(value)
        _remove(node)
        model.graph.register_initializer(value)


def _may_be_packed(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.dtype not in _PACKED or tensor.nbytes <= LEAST:
        return False
    if tensor.dtype in _INTEGERS and any(node.domain for node in value.consumers()):
        return False  # onnxruntime's own operators need plain constants
    return bool(value.uses()) and not value.is_graph_input() and not value.is_graph_output()


class _Packer:
    """Writes packed constants into a graph."""

    def __init__(self, model: ir.Model) -> None:
        self.edit = Editor(model)
        self._shared: dict[str, ir.Value] = {}

    def replace(self, value: ir.Value, grid: Grid | None, sparse: Sparse | None) -> None:
        """Replace a constant by its packed form, under the same name."""
        name, array = str(value.name), constant(value)
        nodes = list[ir.Node]()
        dense = grid.integers if grid is not None else array
        four = grid is not None and grid.four
        if sparse is None:
            made = self._stored(f"{name}_integers", dense, four=four)
        else:
            nodes = self._sparse(name, sparse, dense, four=four)
            made = nodes[-1].outputs[0]
        if grid is not None:
            cast = self.edit.node("Cast", [made], f"{name}_cast", to=ir.DataType.FLOAT)
            steps = self.edit.constant(f"{name}_steps", grid.steps)
            nodes += [cast, self.edit.node("Mul", [cast.outputs[0], steps], f"{name}_unpacked")]
        last = nodes[-1].outputs[0]
        last.shape, last.type = value.shape, value.type
        value.replace_all_uses_with(last)
        del self.edit.graph.initializers[name]
        value.name, last.name = None, name
        self.edit.graph.insert_before(self.edit.graph[0], nodes)

    def _sparse(self, name: str, sparse: Sparse, dense: Array, *, four: bool) -> list[ir.Node]:
        node, nodes = self.edit.node, list[ir.Node]()
        gaps = self._stored(f"{name}_gaps", sparse.gaps, four=sparse.four)
        nodes.append(node("Cast", [gaps], f"{name}_gaps_cast", to=ir.DataType.INT32))
        ends = [nodes[-1].outputs[0], self._once("axis", np.array(0, np.int64))]
        nodes.append(node("CumSum", ends, f"{name}_ends"))
        one = self._once("one", np.array(1, np.int32))
        nodes.append(node("Sub", [nodes[-1].outputs[0], one], f"{name}_places"))
        places = nodes[-1].outputs[0]
        values = self._stored(f"{name}_values", sparse.values, four=four)
        if four:
            nodes.append(node("Cast", [values], f"{name}_values_cast", to=ir.DataType.INT8))
            values = nodes[-1].outputs[0]
        size = self.edit.constant(f"{name}_size", np.array([dense.size], np.int64))
        zero = ir.Tensor(np.zeros(1, dense.dtype))
        nodes.append(node("ConstantOfShape", [size], f"{name}_zeros", value=zero))
        spread = [nodes[-1].outputs[0], places, values]
        nodes.append(node("ScatterElements", spread, f"{name}_spread", axis=0))
        shape = self.edit.constant(f"{name}_shape", np.array(dense.shape, np.int64))
        nodes.append(node("Reshape", [nodes[-1].outputs[0], shape], f"{name}_dense"))
        return nodes

    def _stored(self, name: str, array: Array, *, four: bool) -> ir.Value:
        kind = ml_dtypes.uint4 if array.dtype == np.uint8 else ml_dtypes.int4
        return self.edit.constant(name, array.astype(kind) if four else array)

    def _once(self, name: str, array: Array) -> ir.Value:
        if name not in self._shared:
            self._shared[name] = self.edit.constant(f"packed_{name}", array)
        return self._shared[name]


def _multiplied(node: ir.Node) -> NDArray[np.float32] | None:
    """Return the constant that a product of integers and steps makes, None for other nodes."""
    if node.op_type != "Mul" or node.outputs[0].is_graph_output():
        return None
    cast, steps = _maker(node, 0, "Cast"), _array(node, 1)
    integers = _array(cast, 0) if cast is not None else None
    if integers is None or steps is None or steps.dtype != np.float32:
        return None
    if integers.dtype not in (np.int8, ml_dtypes.int4) or steps.ndim not in (0, integers.ndim):
        return None
    if any(
        size not in (1, extent) for size, extent in zip(steps.shape, integers.shape, strict=False)
    ):
        return None
    product: NDArray[np.float32] = integers.astype(np.float32) * steps
    return product


def _spread(node: ir.Node, budget: int) -> Array | None:
    """Return the constant that is stored by distances, None for other nodes."""
    if node.op_type != "Reshape" or node.outputs[0].is_graph_output():
        return None
    scatter, shape = _maker(node, 0, "ScatterElements"), _array(node, 1)
    zeros = _maker(scatter, 0, "ConstantOfShape") if scatter is not None else None
    gaps, values = _gaps(scatter), _values(scatter)
    if zeros is None or gaps is None or values is None or shape is None:
        return None
    size, fill = _array(zeros, 0), zeros.attributes.get_tensor("value")
    if size is None or size.shape != (1,) or fill is None or fill.numpy().any():
        return None
    if fill.numpy().dtype != values.dtype or prod(shape.tolist()) != size.item():
        return None
    return spread(gaps, values, shape.tolist(), budget)


def _gaps(scatter: ir.Node | None) -> Array | None:
    """Return the distances that a ScatterElements node uses."""
    ends = _maker(scatter, 1, "Sub")
    sums = _maker(ends, 0, "CumSum")
    one, axis = _array(ends, 1), _array(sums, 1)
    if one is None or axis is None or one.tolist() != 1 or axis.tolist() != 0:
        return None
    if sums is None or sums.attributes or scatter is None or set(scatter.attributes) != {"axis"}:
        return None
    gaps = _array(_maker(sums, 0, "Cast"), 0)
    if gaps is None or gaps.ndim != 1 or gaps.dtype not in (np.uint8, ml_dtypes.uint4):
        return None
    return gaps.astype(np.uint8)


def _values(scatter: ir.Node | None) -> Array | None:
    """Return the values that a ScatterElements node places."""
    cast = _maker(scatter, 2, "Cast")
    if cast is None:
        return _array(scatter, 2)
    values = _array(cast, 0)
    fits = values is not None and values.dtype == ml_dtypes.int4
    return values.astype(np.int8) if values is not None and fits else None


def _maker(node: ir.Node | None, slot: int, operator: str) -> ir.Node | None:
    """Return the producer of an input of ``node`` if it has this operator."""
    value = node.inputs[slot] if node is not None and slot < len(node.inputs) else None
    maker = value.producer() if value is not None else None
    return maker if maker is not None and maker.op_type == operator and not maker.domain else None


def _array(node: ir.Node | None, slot: int) -> Array | None:
    """Return the constant that ``node`` reads, None where there is none."""
    value = node.inputs[slot] if node is not None and slot < len(node.inputs) else None
    if value is None or not value.is_initializer() or value.is_graph_input():
        return None
    return value.const_value.numpy() if value.const_value is not None else None


def _remove(node: ir.Node) -> None:
    """Remove a node that nothing reads, and the nodes that only it read."""
    before = [value for value in node.inputs if value is not None]
    graph = graph_of(node)
    graph.remove(node, safe=True)
    for value in dict.fromkeys(before):
        if value.uses() or value.is_graph_output():
            continue
        maker = value.producer()
        if maker is not None and len(maker.outputs) == 1:
            _remove(maker)
        elif value.is_initializer() and not value.is_graph_input() and value.name is not None:
            graph.initializers.pop(value.name, None)
