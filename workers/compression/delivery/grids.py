"""Rewrites pairs of QuantizeLinear and DequantizeLinear for converters of torch programs.

The graph computes the same afterwards. The one exception is the grid of a Softmax, where a runtime
supports a single grid.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.problems import DeliveryFailed
from workers.compression.executor.operators.exact import DOMAIN
from workers.compression.graph.editor import Editor, graph_of
from workers.compression.graph.operators import operand

_FLOAT = ir.TensorType(ir.DataType.FLOAT)
_SOFTMAX = np.array(1 / 256, np.float32), np.array(-128, np.int8)


@dataclass(frozen=True)
class Grids:
    """What a converter needs beyond the common rules."""

    float_weights: bool = False
    """Whether weights are floats that the program quantizes, instead of integers."""
    softmax: bool = False
    """Whether a Softmax gets the only grid of the runtime's kernel: scale 1/256, zero point
    −128."""
    in_float32: bool = False
    """Whether a graph in float16 computes in float32, as the runtime's kernels do."""


@dataclass(frozen=True)
class _Grid:
    scale: NDArray[Any]
    zero: NDArray[Any]
    axis: int
    block: int = 0
    """The values along ``axis`` that share a scale; 0 where all of an index do."""


def write_grids(model: ir.Model, grids: Grids) -> None:
    """Write the pairs with the operators of ``planish.exact``, in place.

    1. An int32 bias becomes a float: kernels quantize it themselves, with the product of the
    scales.
    2. Unsigned integers are shifted by 128 and become signed; the grid is the same.
    3. Each reader gets its own Dequantize, since partitions of a program must not share one.
    4. A weight with a scale for each block becomes a float: converters know no such grids.

    Raises:
        DeliveryFailed: a scale is computed at run time, or belongs to blocks of what is computed.
    """
    editor = Editor(model)
    nodes = [node for node in model.graph if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    for node in nodes:
        if node.op_type == "QuantizeLinear":
            _quantize(editor, node, grids)
    for node in nodes:
        if node.op_type == "DequantizeLinear":
            _dequantize(editor, node, grids)
    editor.remove_unused()


def _quantize(editor: Editor, node: ir.Node, grids: Grids) -> None:
    data = node.inputs[0]
    assert data is not None, "it rounds something"
    producer = data.producer()
    grid = _grid_of(node)
    if grids.softmax and producer is not None and producer.op_type == "Softmax":
        grid = _Grid(*_SOFTMAX, grid.axis)
        for reader, _ in node.outputs[0].uses():
            if reader.op_type == "DequantizeLinear":
                reader.replace_input_with(1, editor.constant(f"{data.name}_grid", _SOFTMAX[0]))
                reader.replace_input_with(2, editor.constant(f"{data.name}_zero", _SOFTMAX[1]))
    quantize = _exact(editor, "Quantize", data, grid)
    editor.replace(node, [quantize])
    quantize.outputs[0].type = ir.TensorType(ir.DataType.from_numpy(grid.zero.dtype))


def _dequantize(editor: Editor, node: ir.Node, grids: Grids) -> None:
    data, raw = node.inputs[0], _raw_grid(node)
    assert data is not None, "it reads something"
    if data.const_value is None:
        _one_for_each_reader(editor, node, data, _grid_of(node))
        return
    integers = data.const_value.numpy()
    stays_float = raw.block > 0 or integers.dtype == np.int32
    if stays_float or grids.float_weights:
        real = editor.constant(f"{node.outputs[0].name}_real", _real(integers, raw))
        if stays_float:
            ir.convenience.replace_all_uses_with(node.outputs[0], real)
            graph_of(node).remove(node, safe=True)
            return
        grid = _grid_of(node)
        quantize = _exact(editor, "Quantize", real, grid)
        quantize.outputs[0].type = ir.TensorType(ir.DataType.from_numpy(grid.zero.dtype))
        quantize.outputs[0].shape = real.shape
        editor.insert_after(real, [quantize])
        _one_for_each_reader(editor, node, quantize.outputs[0], grid)
        return
    stored = editor.constant(f"{data.name}_signed", _signed(integers))
    _one_for_each_reader(editor, node, stored, _grid_of(node))


def _one_for_each_reader(editor: Editor, node: ir.Node, data: ir.Value, grid: _Grid) -> None:
    output = node.outputs[0]
    for reader, slot in list(output.uses())[1:]:
        copy = _exact(editor, "Dequantize", data, grid)
        copy.outputs[0].shape, copy.outputs[0].type = output.shape, _FLOAT
        graph_of(node).insert_before(node, [copy])
        reader.replace_input_with(slot, copy.outputs[0])
    editor.replace(node, [_exact(editor, "Dequantize", data, grid)])


def _exact(editor: Editor, operator: str, data: ir.Value, grid: _Grid) -> ir.Node:
    scale = editor.constant(f"{data.name}_scale", grid.scale)
    zero = editor.constant(f"{data.name}_zero", grid.zero)
    return editor.node(
        operator, [data, scale, zero], f"{data.name}_{operator.lower()}d", domain=DOMAIN,
        axis=grid.axis,
    )  # fmt: skip


def _grid_of(node: ir.Node) -> _Grid:
    raw = _raw_grid(node)
    if raw.block:
        raise DeliveryFailed(f"{node.op_type} '{node.name}' has a scale for each block of values.")
    return _Grid(raw.scale.astype(np.float32), _signed(raw.zero), raw.axis)


def _raw_grid(node: ir.Node) -> _Grid:
    scale, zero = operand(node, 1), operand(node, 2)
    kind = node.inputs[0].dtype if node.op_type == "DequantizeLinear" and node.inputs[0] else None
    if scale is None or scale.const_value is None or (zero and zero.const_value is None):
        raise DeliveryFailed(f"{node.op_type} '{node.name}' computes its scale.")
    array = scale.const_value.numpy()
    if zero is None or zero.const_value is None:
        named = ir.DataType(node.attributes.get_int("output_dtype", 0) or ir.DataType.UINT8)
        zeros = np.zeros_like(array, (kind or named).numpy())
    else:
        zeros = zero.const_value.numpy()
    axis, block = node.attributes.get_int("axis", 1), node.attributes.get_int("block_size", 0)
    return _Grid(array, zeros, axis, block)


def _signed(integers: NDArray[Any]) -> NDArray[Any]:
    if integers.dtype != np.uint8:
        return integers
    return (integers.astype(np.int16) - 128).astype(np.int8)


def _real(integers: NDArray[Any], grid: _Grid) -> NDArray[np.float32]:
    scale, zero = (_spread(values, integers.shape, grid) for values in (grid.scale, grid.zero))
    return ((integers.astype(np.float64) - zero) * scale).astype(np.float32)


def _spread(values: NDArray[Any], shape: tuple[int, ...], grid: _Grid) -> NDArray[np.float64]:
    """Return scales or zero points so that they broadcast over an array."""
    wide = values.astype(np.float64)
    if grid.block:
        each = np.repeat(wide, grid.block, grid.axis)
        return each.take(range(shape[grid.axis]), grid.axis)
    form = [1] * len(shape)
    if wide.size > 1:
        form[grid.axis] = -1
    return wide.reshape(form)
