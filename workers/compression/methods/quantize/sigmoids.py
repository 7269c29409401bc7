"""Lets Sigmoids between integers return integers.

SiLU is a value times its Sigmoid. Where the value and the product are quantized, a factor in floats
keeps the product in floats, with conversions before and behind it, and without the kernel that
onnxruntime has for SiLU in float. A detector of 38 convolutions took 1.15 times as long.

A Sigmoid's values lie between 0 and 1 whatever it reads, so that their grid needs no calibration.
"""

import onnx_ir as ir

from app.domain.steps import Quantize
from workers.compression.methods.quantize.integers import BITS, STORED_BITS, range_grid
from workers.compression.methods.quantize.writer import Writer

_LARGEST = 255 / 256
"""The largest value of the grid: its scale is 1/256, the one that LiteRT's kernel has too."""


def write_sigmoids(writer: Writer, parameters: Quantize) -> None:
    """Add a pair after each Sigmoid of a quantized value that only multiplies quantized values.

    Args:
        writer: of a graph whose other pairs are there.
        parameters: the type of activations; a type with fewer levels, or with half of them below
            zero, would be too coarse.
    """
    activations = parameters.activations
    if parameters.symmetric or BITS.get(activations) != STORED_BITS:
        return
    grid = range_grid(0, _LARGEST, activations, symmetric=False)
    for node in list(writer.edit.graph):
        if node.op_type == "Sigmoid" and _is_dequantized(node.inputs[0]) and _weighs(node):
            writer.quantize_output(node.outputs[0], grid)


def _weighs(sigmoid: ir.Node) -> bool:
    """Return whether all that reads a Sigmoid is products of and to quantized values."""
    factor = sigmoid.outputs[0]
    products = factor.consumers()
    return not factor.is_graph_output() and bool(products) and all(
        product.op_type == "Mul"
        and any(_is_dequantized(value) for value in product.inputs if value is not factor)
        and _is_quantized(product.outputs[0])
        for product in products
    )  # fmt: skip


def _is_dequantized(value: ir.Value | None) -> bool:
    node = value.producer() if value is not None else None
    return node is not None and node.op_type == "DequantizeLinear"


def _is_quantized(value: ir.Value) -> bool:
    """Return whether nothing reads a value but what makes integers of it."""
    readers = value.consumers()
    quantized = all(reader.op_type == "QuantizeLinear" for reader in readers)
    return bool(readers) and quantized and not value.is_graph_output()
