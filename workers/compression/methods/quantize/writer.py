"""Adds quantized tensors and the nodes around them to a graph, under names that never collide."""

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.reports import LayerChange
from workers.compression.methods.quantize import integers
from workers.compression.methods.quantize.integers import Grid
from workers.compression.methods.quantize.layers import Layer
from workers.compression.methods.quantize.opset import PER_CHANNEL

_MICROSOFT = "com.microsoft"
_SIXTEEN_BIT_OPSET = 21


class Writer:
    """Edits one graph in place. A tensor that several layers share is written once.

    Where the graph's opset has no 16-bit or per-channel QuantizeLinear, onnxruntime's own (domain
    ``com.microsoft``) is used: same meaning, same kernels, and the opset stays.

    Args:
        model: the graph to edit.
        activations: numpy's name of the activations' type.
    """

    def __init__(self, model: ir.Model, activations: str = "uint8") -> None:
        self.graph = model.graph
        self._names = _names(model)
        self._weights: dict[tuple[ir.Value, int | None, bool], tuple[Grid, ir.Value]] = {}
        self._dequantized: dict[ir.Value, ir.Value] = {}
        opset = self.graph.opset_imports.get("", 0)
        needed = _SIXTEEN_BIT_OPSET if activations.endswith("16") else PER_CHANNEL
        self._domain = "" if opset >= needed else _MICROSOFT

    def constant(self, name: str, array: NDArray[Any]) -> ir.Value:
        """Add an initializer."""
        fresh = self._fresh(name)
        tensor = ir.Tensor(np.ascontiguousarray(array), name=fresh)
        value = ir.Value(
            name=fresh, const_value=tensor, shape=tensor.shape, type=ir.TensorType(tensor.dtype)
        )
        self.graph.register_initializer(value)
        return value

    def node(
        self,
        operator: str,
        inputs: list[ir.Value],
        *outputs: str,
        domain: str = "",
        **attributes: Any,
    ) -> ir.Node:
        """Make a node, not yet in the graph, with the name of its first output."""
        node = ir.node(operator, inputs, attributes, domain=domain, num_outputs=len(outputs))
        for value, name in zip(node.outputs, outputs, strict=True):
            value.name = self._fresh(name)
        node.name = node.outputs[0].name
        if domain:
            self.graph.opset_imports.setdefault(domain, 1)
        return node

    def weight(
        self,
        layer: Layer,
        dtype: str,
        smallest: NDArray[np.float32] | float = 0.0,
        *,
        transposed: bool = False,
    ) -> tuple[Grid, ir.Value]:
        """Store a layer's weight as integers, once for all who share it.

        Args:
            layer: whose weight.
            dtype: ``int8`` or ``uint8``.
            smallest: lower bound of the scales.
            transposed: store the transposed matrix.

        Returns:
            The grid, and the integers' initializer.
        """
        key = (layer.weight, layer.axis, transposed)
        if key not in self._weights:
            array = layer.weights
            grid = integers.weight_grid(array, dtype, layer.axis, smallest)
            name = f"{layer.weight.name}_quantized"
            rounded = integers.quantize(array, grid)
            stored = self.constant(name, rounded.T if transposed else rounded)
            self._weights[key] = grid, stored
        return self._weights[key]

    def dequantize_before(self, node: ir.Node, slot: int, stored: ir.Value, grid: Grid) -> None:
        """Let ``node`` read the integers ``stored`` through DequantizeLinear."""
        if stored not in self._dequantized:
            up = self._dequantize(stored, grid, f"{stored.name}_dequantized")
            self.graph.insert_before(node, up)
            self._dequantized[stored] = up.outputs[0]
        node.replace_input_with(slot, self._dequantized[stored])

    def dequantize_after(self, gather: ir.Node, stored: ir.Value, grid: Grid) -> None:
        """Let a look-up read integers, and dequantize only what it found."""
        output = gather.outputs[0]
        axis = None if grid.axis is None else -1
        gather.replace_input_with(0, stored)
        self._behind(output, self._dequantize(output, Grid(grid.scale, grid.zero_point, axis)))
        output.type = ir.TensorType(ir.DataType.from_numpy(grid.zero_point.dtype))

    def quantize_input(
        self, value: ir.Value, grid: Grid, readers: Collection[ir.Node] | None
    ) -> None:
        """Let ``readers``, or all who read ``value``, read it quantized."""
        pair = self._pair(value, grid)
        uses = [use for use in value.uses() if use[0] is not pair[0]]
        self._insert_after(value, pair)
        for node, slot in uses:
            if readers is None or (node in readers and slot == 0):
                node.replace_input_with(slot, pair[1].outputs[0])

    def quantize_output(self, value: ir.Value, grid: Grid) -> None:
        """Let all who read ``value``, the graph's outputs included, read it quantized."""
        self._behind(value, *self._pair(value, grid))

    def replace(self, node: ir.Node, steps: list[ir.Node]) -> None:
        """Put nodes in the place of one; the last one's output takes over its name."""
        self.graph.insert_before(node, steps)
        old, new = node.outputs[0], steps[-1].outputs[0]
        new.shape, new.type = old.shape, old.type
        name = old.name
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        self.graph.remove(node, safe=True)
        new.name = name

    def bypass(self, node: ir.Node) -> None:
        """Remove a node; who read its output reads its first input."""
        value = node.inputs[0]
        assert value is not None
        ir.convenience.replace_all_uses_with(node.outputs[0], value)
        self.graph.remove(node, safe=True)

    def remove_unused(self) -> None:
        """Drop the initializers that nothing reads any more."""
        for name, value in list(self.graph.initializers.items()):
            if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                del self.graph.initializers[name]

    def _behind(self, value: ir.Value, *nodes: ir.Node) -> None:
        """Put nodes behind ``value``; who read it reads the last one, under the same name."""
        last = nodes[-1].outputs[0]
        first_reader = nodes[0]
        uses = [use for use in value.uses() if use[0] is not first_reader]
        self._insert_after(value, nodes)
        for node, slot in uses:
            node.replace_input_with(slot, last)
        if value.is_graph_output():
            outputs = self.graph.outputs
            outputs[outputs.index(value)] = last
            last.shape, last.type = value.shape, value.type
            value.name, last.name = self._fresh(f"{value.name}_float"), value.name

    def _insert_after(self, value: ir.Value, nodes: Collection[ir.Node]) -> None:
        producer = value.producer()
        if producer is None:
            self.graph.insert_before(self.graph[0], nodes)
        else:
            self.graph.insert_after(producer, nodes)

    def _pair(self, value: ir.Value, grid: Grid) -> list[ir.Node]:
        """Make QuantizeLinear and DequantizeLinear of ``value``."""
        scale = self.constant(f"{value.name}_scale", grid.scale)
        zero = self.constant(f"{value.name}_zero_point", grid.zero_point)
        inputs, domain = [scale, zero], self._domain
        down = self.node(
            "QuantizeLinear", [value, *inputs], f"{value.name}_quantized", domain=domain
        )
        up = self.node(
            "DequantizeLinear", [down.outputs[0], *inputs], f"{value.name}_dequantized",
            domain=domain,
        )  # fmt: skip
        return [down, up]

    def _dequantize(self, value: ir.Value, grid: Grid, output: str | None = None) -> ir.Node:
        scale = self.constant(f"{value.name}_scale", grid.scale)
        zero = self.constant(f"{value.name}_zero_point", grid.zero_point)
        attributes = {} if grid.axis is None else {"axis": grid.axis}
        return self.node(
            "DequantizeLinear", [value, scale, zero], output or f"{value.name}_dequantized",
            domain=self._domain, **attributes,
        )  # fmt: skip

    def _fresh(self, name: str) -> str:
        """Return ``name``, with a number behind it when it is taken."""
        candidate, count = name, 1
        while candidate in self._names:
            candidate, count = f"{name}_{count}", count + 1
        self._names.add(candidate)
        return candidate


def _names(model: ir.Model) -> set[str]:
    """Return the names of all values and nodes, those in subgraphs included."""
    found = {
        str(v.name)
        for graph in model.graphs()
        for v in (*graph.inputs, *graph.initializers.values())
    }
    for node in model.graph.all_nodes():
        found |= {str(value.name) for value in node.outputs} | {str(node.name)}
    return found


def change(layer: Layer, how: str, grid: Grid, stored: NDArray[Any]) -> LayerChange:
    """Report what a layer's weight was and is; the scales are counted, the bias is not."""
    array = layer.weights
    per = "per channel" if grid.axis is not None else "per tensor"
    return LayerChange(
        node=str(layer.node.name),
        operator=layer.node.op_type,
        change=f"weights float32 → {stored.dtype} {per}, {how}",
        bytes_before=array.nbytes,
        bytes_after=stored.nbytes + grid.scale.nbytes + grid.zero_point.nbytes,
        sqnr_db=integers.sqnr_db(array, integers.dequantize(stored, grid)),
    )
