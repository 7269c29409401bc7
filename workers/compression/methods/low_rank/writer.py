"""Replaces a layer of a graph by a chain of smaller layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.editor import Editor
from workers.compression.graph.operators import operand
from workers.compression.methods.low_rank.decompositions import Factor
from workers.compression.methods.low_rank.layers import LowRankLayer


def replace(
    edit: Editor, layer: LowRankLayer, factors: Sequence[Factor], shift: NDArray[np.float64] | None
) -> list[ir.Node]:
    """Replace a layer by its factors; the last factor gets the bias.

    Args:
        edit: the editor of the graph.
        layer: the layer to replace.
        factors: the factors in the order in which they are applied.
        shift: ``[O]``, added to the bias; None adds nothing.

    Returns:
        The nodes that replace the layer.
    """
    value = layer.node.inputs[0]
    assert value is not None
    nodes = list[ir.Node]()
    for index, factor in enumerate(factors):
        last = index == len(factors) - 1
        bias = _bias(edit, layer, shift) if last else None
        write_factor = _convolution if layer.node.op_type == "Conv" else _product
        node = write_factor(edit, layer.node, index, factor, value, bias)
        nodes.append(node)
        value = node.outputs[0]
    edit.replace(layer.node, nodes)
    return nodes


def chain_macs(layer: LowRankLayer, factors: Sequence[Factor]) -> int:
    """Count the multiply-accumulates of a chain for one sample."""
    sizes, total = list(layer.input_sizes), 0
    for factor in factors:
        for axis in factor.axes:
            sizes[axis] = layer.output_sizes[axis]
        total += int(np.prod(sizes, dtype=np.int64)) * factor.weight.size
    return total // layer.samples


def _bias(edit: Editor, layer: LowRankLayer, shift: NDArray[np.float64] | None) -> ir.Value | None:
    """Return the bias of the chain's last node; None if it has no bias."""
    node = layer.node
    has_bias = operand(node, 2) is not None
    if node.op_type == "MatMul" or not (has_bias or shift is not None):
        return None
    moved = layer.bias if shift is None else layer.bias + shift.astype(np.float32)
    return edit.constant(f"{node.name}_bias", moved)


def _convolution(
    edit: Editor, old: ir.Node, index: int, factor: Factor, value: ir.Value, bias: ir.Value | None
) -> ir.Node:
    name = f"{old.name}_factor{index + 1}"
    inputs = [value, edit.constant(f"{name}_weight", factor.weight)]
    return edit.node(
        "Conv", inputs if bias is None else [*inputs, bias], name, **_geometry(old, factor)
    )


def _geometry(old: ir.Node, factor: Factor) -> dict[str, Any]:
    """Return the attributes of a factor: those of the layer on its axes, neutral ones elsewhere."""
    rank = factor.weight.ndim - 2

    def pick(name: str, neutral: int) -> list[int]:
        values = list(old.attributes.get_ints(name, [neutral] * rank))
        return [values[axis] if axis in factor.axes else neutral for axis in range(rank)]

    attributes: dict[str, Any] = {
        "kernel_shape": list(factor.weight.shape[2:]),
        "group": factor.groups,
        "strides": pick("strides", 1),
        "dilations": pick("dilations", 1),
    }
    auto = old.attributes.get_string("auto_pad", "NOTSET")
    if auto != "NOTSET":
        return attributes | {"auto_pad": auto}
    pads = list(old.attributes.get_ints("pads", [0] * (2 * rank)))
    factor_pads = [pad if i % rank in factor.axes else 0 for i, pad in enumerate(pads)]
    return attributes | {"pads": factor_pads}


def _product(
    edit: Editor, old: ir.Node, index: int, factor: Factor, value: ir.Value, bias: ir.Value | None
) -> ir.Node:
    name = f"{old.name}_factor{index + 1}"
    matrix = edit.constant(f"{name}_weight", factor.weight.T)
    if bias is None:
        return edit.node("MatMul", [value, matrix], name)
    return edit.node("Gemm", [value, matrix, bias], name)
