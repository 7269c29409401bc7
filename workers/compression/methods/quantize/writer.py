"""Adds quantized tensors, and the nodes that read or write them, to a graph under unique names."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.reports import LayerChange
from workers.compression.graph.editor import Editor
from workers.compression.graph.forms import has_four_bits
from workers.compression.graph.narrow import bytes_in_file, stored_as
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.quantize import integers
from workers.compression.methods.quantize.integers import Grid
from workers.compression.methods.quantize.layers import QuantizableLayer
from workers.compression.methods.quantize.opset import PER_CHANNEL

_MICROSOFT = "com.microsoft"
_SIXTEEN_BIT_OPSET = 21
_FLOAT = ir.DataType.FLOAT


@dataclass(frozen=True)
class IntegerWeight:
    """A weight that is stored as integers in the graph."""

    grid: Grid
    value: ir.Value
    """The value that holds the integers, in eight bits."""
    integers: NDArray[Any]
    """The integers in the weight's layout, not transposed."""
    dtype: str
    """The smallest type that holds the integers."""

    @property
    def nbytes(self) -> int:
        """The bytes of the integers, scales and zero points in the file; zeros are shared."""
        packed = (self.integers.size + 1) // 2 if integers.BITS[self.dtype] <= 4 else 0
        zeros = self.grid.zero_point.nbytes if self.grid.zero_point.any() else 0
        return (packed or self.integers.nbytes) + self.grid.scale.nbytes + zeros


class Writer:
    """Adds quantized tensors to one graph, in place. What layers share is written once.

    Names are short where nobody looks for them, of nodes that quantize or dequantize and of their
    scales: a file repeats each several times, which was a tenth of a small network.

    If the graph's opset has no 16-bit or per-channel QuantizeLinear, that of onnxruntime (domain
    ``com.microsoft``) is used. It has the same meaning and the same kernels.

    Args:
        model: the graph to edit.
        activations: numpy's name of the activations' type.
        standard: whether to use the standard's operators if the opset has them.
    """

    def __init__(
        self, model: ir.Model, activations: str = "uint8", *, standard: bool = True
    ) -> None:
        self.edit = Editor(model)
        self._weights: dict[tuple[ir.Value, int | None, bool], IntegerWeight] = {}
        self.scales: dict[str, str] = {}
        """The initializer that holds the scale of a value, by the value's name."""
        self._dequantized: dict[ir.Value, ir.Value] = {}
        self._multiplied: dict[ir.Value, ir.Value] = {}
        self._shared: dict[tuple[np.dtype[Any], tuple[int, ...], bytes], ir.Value] = {}
        opset = model.graph.opset_imports.get("", 0)
        needed = _SIXTEEN_BIT_OPSET if activations.endswith("16") else PER_CHANNEL
        self._domain = "" if standard and opset >= needed else _MICROSOFT

    def weight(
        self,
        layer: QuantizableLayer,
        dtype: str,
        smallest: NDArray[np.float32] | float = 0.0,
        *,
        grid: Grid | None = None,
        rounded: NDArray[np.float32] | None = None,
        transposed: bool = False,
    ) -> IntegerWeight:
        """Store a layer's weight as integers, once for all layers that share it.

        Args:
            layer: the layer.
            dtype: ``int2`` to ``int8``, or ``uint8``.
            smallest: the lower bound of the scales.
            grid: the weight's grid; None computes the best one.
            rounded: the weight on its grid; None rounds it to nearest.
            transposed: whether to store the transposed matrix.
        """
        key = (layer.weight, layer.axis, transposed)
        if key not in self._weights:
            array = layer.weights
            if grid is None:
                grid = integers.weight_grid(array, dtype, layer.axis, smallest)
            grid = replace(grid, scale=np.maximum(grid.scale, smallest).astype(np.float32))
            levels = integers.quantize(array if rounded is None else rounded, grid)
            name = f"{layer.weight.name}_quantized"
            value = self._store(name, levels.T if transposed else levels, dtype)
            self._weights[key] = IntegerWeight(grid, value, levels, dtype)
        return self._weights[key]

    def _store(self, name: str, rounded: NDArray[Any], dtype: str) -> ir.Value:
        """Add integers to the graph; types of up to four bits are packed, and cast to eight bits.

        Graphs that stay at an older opset have no such types. onnxruntime computes the cast once,
        when it loads the graph, so its int8 kernels apply.
        """
        if integers.BITS[dtype] > 4 or not has_four_bits(self.edit.model):
            return self.edit.constant(name, rounded)
        packed = self.edit.constant(f"{name}_packed", rounded.astype(ml_dtypes.int4))
        cast = self.edit.node("Cast", [packed], name, to=ir.DataType.INT8)
        self.edit.graph.insert_before(self.edit.graph[0], cast)
        value = cast.outputs[0]
        value.shape, value.type = packed.shape, ir.TensorType(ir.DataType.INT8)
        return value

    def dequantize_before(self, node: ir.Node, slot: int, stored: ir.Value, grid: Grid) -> None:
        """Let ``node`` read the integers ``stored`` through DequantizeLinear."""
        if stored not in self._dequantized:
            dequantize = self._dequantize(stored, grid)
            self.edit.insert_after(stored, [dequantize])
            self._dequantized[stored] = dequantize.outputs[0]
        node.replace_input_with(slot, self._dequantized[stored])

    def multiply_before(self, node: ir.Node, slot: int, stored: IntegerWeight) -> None:
        """Let ``node`` read integers times scales, for products that run in float.

        onnxruntime computes the product once, when it loads the graph; it would compute a
        DequantizeLinear on each run. Integers with a zero point get a DequantizeLinear all the
        same.
        """
        if stored.grid.zero_point.any():
            self.dequantize_before(node, slot, stored.value, stored.grid)
            return
        if stored.value not in self._multiplied:
            scale, _ = stored.grid.reshaped(stored.integers.ndim)
            cast = self.edit.node("Cast", [stored.value], "c", to=_FLOAT)
            factor = self.edit.constant("s", scale)
            product = self.edit.node("Mul", [cast.outputs[0], factor], "d")
            for output in (cast.outputs[0], product.outputs[0]):
                output.shape, output.type = stored.value.shape, ir.TensorType(_FLOAT)
            self.edit.insert_after(stored.value, [cast, product])
            self._multiplied[stored.value] = product.outputs[0]
        node.replace_input_with(slot, self._multiplied[stored.value])

    def dequantize_after(self, gather: ir.Node, stored: ir.Value, grid: Grid) -> None:
        """Let a Gather read integers, and dequantize only its result."""
        output = gather.outputs[0]
        axis = None if grid.axis is None else -1
        gather.replace_input_with(0, stored)
        self.edit.behind(output, self._dequantize(output, Grid(grid.scale, grid.zero_point, axis)))
        output.type = ir.TensorType(ir.DataType.from_numpy(grid.zero_point.dtype))

    def quantize_input(
        self, value: ir.Value, grid: Grid, readers: Collection[ir.Node] | None
    ) -> None:
        """Let ``readers``, or all nodes that read ``value``, read it quantized."""
        pair = self._pair(value, grid)
        uses = [use for use in value.uses() if use[0] is not pair[0]]
        self.edit.insert_after(value, pair)
        for node, slot in uses:
            if readers is None or (node in readers and slot == 0):
                node.replace_input_with(slot, pair[-1].outputs[0])

    def quantize_output(self, value: ir.Value, grid: Grid) -> None:
        """Let all readers of ``value``, the graph's outputs included, read it quantized."""
        self.edit.behind(value, *self._pair(value, grid))

    def _pair(self, value: ir.Value, grid: Grid) -> list[ir.Node]:
        """Return the QuantizeLinear and DequantizeLinear of ``value``.

        If the grid uses fewer integers than the type has, a Clip of the integers stands between the
        two: onnxruntime still fuses them, and the bounds do not depend on the scale.
        """
        scale, zero = self.edit.constant("s", grid.scale), self.once(grid.zero_point)
        self.scales[str(value.name)] = str(scale.name)
        inputs, domain = [scale, zero], self._domain
        attributes = {} if grid.axis is None else {"axis": grid.axis}
        quantize = self.edit.node(
            "QuantizeLinear", [value, *inputs], "q", domain=domain, **attributes
        )
        pair = [quantize]
        if grid.ends is not None:
            ends = [self.once(np.array(end, grid.zero_point.dtype)) for end in grid.ends]
            pair.append(self.edit.node("Clip", [quantize.outputs[0], *ends], "q"))
        dequantize = self.edit.node(
            "DequantizeLinear", [pair[-1].outputs[0], *inputs], "d", domain=domain, **attributes
        )
        integers_type = ir.TensorType(ir.DataType.from_numpy(grid.zero_point.dtype))
        for node in (*pair, dequantize):
            output = node.outputs[0]
            output.shape, output.type = (
                value.shape,
                value.type if node is dequantize else integers_type,
            )
        return [*pair, dequantize]

    def once(self, array: NDArray[Any]) -> ir.Value:
        """Return the constant for zero points or bounds of integers; equal ones are stored once."""
        key = array.dtype, array.shape, array.tobytes()
        if key not in self._shared:
            self._shared[key] = self.edit.constant("z", array)
        return self._shared[key]

    def _dequantize(self, value: ir.Value, grid: Grid) -> ir.Node:
        scale, zero = self.edit.constant("s", grid.scale), self.once(grid.zero_point)
        attributes = {} if grid.axis is None else {"axis": grid.axis}
        node = self.edit.node(
            "DequantizeLinear", [value, scale, zero], "d", domain=self._domain, **attributes
        )
        node.outputs[0].shape, node.outputs[0].type = value.shape, ir.TensorType(_FLOAT)
        return node


def change(
    model: ir.Model, layer: QuantizableLayer, how: str, stored: IntegerWeight
) -> LayerChange:
    """Report the change of a layer's weight; its scales are counted, its bias is not."""
    array = layer.weights
    per = "per channel" if stored.grid.axis is not None else "per tensor"
    return LayerChange(
        node=str(layer.node.name),
        operator=layer.node.op_type,
        change=f"weights {stored_as(model, array)} → {stored.dtype} {per}, {how}",
        bytes_before=bytes_in_file(model, array),
        bytes_after=stored.nbytes,
        sqnr_db=sqnr_db(array, integers.dequantize(stored.integers, stored.grid)),
    )
