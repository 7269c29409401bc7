"""Matrix products whose weights are blocks of four bits, in standard operators.

A product reads its weight through a DequantizeLinear with ``block_size``. onnxruntime fuses the two
into one kernel, which unpacks blocks as it multiplies, and rounds activations to eight bits in
blocks of the same size; other runtimes have the operator too. It pays where a product reads few
rows: then it takes as long as reading its weight.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import onnx_ir as ir

from app.domain.reports import LayerChange
from app.domain.steps import Quantize, Skipped
from workers.compression.graph.editor import Editor, constant
from workers.compression.graph.narrow import stored_as
from workers.compression.graph.operators import input_axis
from workers.compression.graph.products import bias_vector
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.integers import BITS, Floats, limits_of
from workers.compression.methods.quantize.layers import QuantizableLayer, matrices, select
from workers.compression.methods.quantize.levels import Levels
from workers.compression.methods.weight_uses import WeightUse

_Written = dict[tuple[str, int, float], list[ir.Value]]
"""The blocks in a graph, by the weight's name, its axis of inputs, and what multiplies them."""


@dataclass(frozen=True)
class BlockProducts:
    """Writes the weights of products in blocks; the grid of each is found once, for all copies."""

    parameters: Quantize
    """Of ``weight_only``, in four bits: the size of a block, and the ignored nodes."""
    learned: Mapping[str, Floats] = field(default_factory=dict)
    """Weights that are not rounded to nearest, by their names."""
    forms: dict[tuple[str, int], Levels] = field(default_factory=dict)
    """The grids that are known, by the weight's name and its axis of inputs."""

    def uses(self, model: ir.Model) -> list[WeightUse]:
        """Return the products of a graph whose weights can be written in blocks."""
        return [WeightUse(layer.node, layer.weight) for layer in self._selected(model, {})[0]]

    def form(self, use: WeightUse, _model: ir.Model) -> Levels:
        """Return the grid of a weight: a step for each block, in the weight's layout."""
        key = use.weight, _axis(use.node)
        if key not in self.forms:
            self.forms[key] = _grid(constant(use.value), key[1], self.parameters)
        return self.forms[key]

    def write(self, model: ir.Model, excluded: Mapping[str, str]) -> Outcome:
        """Return a copy of a graph with the weights of its products in blocks.

        Args:
            model: the graph, not changed; weights of one name are the same in all that are given.
            excluded: nodes that stay as they are, by name, each with the reason.
        """
        copy = model.clone()
        layers, skipped = self._selected(copy, excluded)
        edit, written = Editor(copy), _Written()
        changes = [self._replace(edit, layer, written) for layer in layers]
        edit.remove_unused()
        return Outcome(copy, changes, skipped)

    def _selected(
        self, model: ir.Model, excluded: Mapping[str, str]
    ) -> tuple[list[QuantizableLayer], list[Skipped]]:
        """Return the products to write in blocks, and why others are not."""
        layers, skipped = matrices(*select(model, self.parameters, excluded))
        reasons = {str(layer.node.name): self._unfit(layer, model) for layer in layers}
        return (
            [layer for layer in layers if reasons[str(layer.node.name)] is None],
            [*skipped, *(Skipped(node=n, reason=why) for n, why in reasons.items() if why)],
        )

    def _unfit(self, layer: QuantizableLayer, model: ir.Model) -> str | None:
        """Return why the weights of a product cannot be in blocks; None if they can."""
        size = self.parameters.block_size
        if layer.node.graph is not model.graph:
            return "it lies in a branch or loop, where onnxruntime does not open weights in blocks"
        if layer.weights.shape[_axis(layer.node)] % size:
            return f"its inputs are no whole blocks of {size}, which not every runtime reads"
        return None

    def _replace(self, edit: Editor, layer: QuantizableLayer, written: _Written) -> LayerChange:
        """Let a product read its weight from blocks; products of one weight share the blocks."""
        node, array, size = layer.node, layer.weights, self.parameters.block_size
        name, data, use = str(node.name), node.inputs[0], WeightUse(node, layer.weight)
        assert data is not None, "a product reads data"
        rounded = self.form(use, edit.model).nearest(self.learned.get(use.weight, array))
        alpha = node.attributes.get_float("alpha", 1.0) if node.op_type == "Gemm" else 1.0
        key = use.weight, _axis(node), alpha
        if key not in written:
            written[key] = self._written(edit, use, rounded, alpha)
        stored = written[key]
        unpack = edit.node("DequantizeLinear", stored, f"{name}_weight", axis=0, block_size=size)
        product = edit.node("MatMul", [data, unpack.outputs[0]], f"{name}_product")
        nodes = [unpack, product]
        if layer.bias is not None:
            bias = edit.constant(f"{name}_bias", bias_vector(node, constant(layer.bias)))
            nodes.append(edit.node("Add", [product.outputs[0], bias], f"{name}_sum"))
        edit.replace(node, nodes)
        dtype, bits = stored_as(edit.model, array), BITS[self.parameters.weights]
        return LayerChange(
            node=name,
            operator=node.op_type,
            change=f"weights {dtype} → {bits} bits in blocks of {size}",
            bytes_before=array.size * dtype.itemsize,
            bytes_after=array.size * bits // 8 + constant(stored[1]).nbytes,
            sqnr_db=sqnr_db(array, rounded),
        )

    def _written(
        self, edit: Editor, use: WeightUse, rounded: Floats, alpha: float
    ) -> list[ir.Value]:
        """Add the blocks of a rounded weight, ``[inputs, outputs]``, and their steps to a graph."""
        step, axis = self.form(use, edit.model).step, _axis(use.node)
        multiples = np.moveaxis(np.rint(rounded / step), axis, 0)
        steps = np.moveaxis(step, axis, 0)[:: self.parameters.block_size]
        return [
            edit.constant(f"{use.weight}_blocks", multiples.astype(ml_dtypes.int4)),
            edit.constant(f"{use.weight}_steps", steps * np.float32(alpha)),
        ]


def _axis(product: ir.Node) -> int:
    """Return the axis of inputs of a product's weight."""
    axis = input_axis(product)
    assert axis is not None, "products have one"
    return axis % 2


def _grid(weights: Floats, axis: int, parameters: Quantize) -> Levels:
    """Return the grid of a matrix: each block of ``axis`` has a step, which covers its weights."""
    least, most = limits_of(parameters.weights)
    rows = np.moveaxis(weights, axis, -1)
    blocks = rows.reshape(len(rows), -1, parameters.block_size)
    needed = np.maximum(blocks.min(-1) / np.float32(least), blocks.max(-1) / np.float32(most))
    steps = np.where(needed > 0, needed, np.float32(1)).astype(np.float32)
    each = np.repeat(steps, parameters.block_size, axis=1)
    return Levels.grid(np.moveaxis(each, -1, axis), least, most)
