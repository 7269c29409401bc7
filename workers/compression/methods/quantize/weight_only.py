"""Weight-only quantization: products have weights in blocks of four or eight bits.

Each product becomes onnxruntime's ``MatMulNBits``, which unpacks blocks as it multiplies. Large
products are bound by memory bandwidth, and packed weights need less of it. Activations are float in
the graph; the kernel rounds them for itself where that is faster.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.problems import StepFailed
from app.domain.reports import LayerChange
from app.domain.steps import Quantize
from workers.compression.graph.editor import Editor, constant
from workers.compression.graph.narrow import stored_as
from workers.compression.graph.products import bias_vector, matrix
from workers.compression.looking.probe import sums_of, totals
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import blocks
from workers.compression.methods.quantize.blocks import Blocks
from workers.compression.methods.quantize.integers import BITS
from workers.compression.methods.quantize.layers import QuantizableLayer, matrices, select
from workers.compression.progress import span
from workers.compression.samples.context import Context

_MICROSOFT = "com.microsoft"

_INT8 = 4
"""The accuracy level at which the kernel may round what a product reads to eight bits, in blocks of
the same size. The error is 45 dB below the product."""


def quantize_weights(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Store the weights of matrix products in blocks.

    Raises:
        StepFailed: the algorithm is GPTQ, and there is no data.
    """
    layers, skipped = matrices(*select(model, parameters))
    hessians = _hessians(model, layers, parameters, context, span(advance, 0, 0.5))
    edit, changes = Editor(model), []
    written: dict[tuple[Any, ...], _Written] = {}
    for done, layer in enumerate(layers):
        weight = matrix(layer.node, layer.weights.astype(np.float64))
        key = (layer.weight, _factors(layer.node))
        if key not in written:
            stored = _quantized(weight, parameters, hessians.get(str(layer.node.name)))
            written[key] = _write(edit, layer, stored, parameters)
        changes.append(_change(model, layer, weight, written[key].blocks, parameters))
        _replace(edit, layer, written[key], parameters)
        advance(0.5 + 0.5 * (done + 1) / len(layers))
    edit.remove_unused()
    return Outcome(model, changes, skipped)


def _hessians(
    model: ir.Model,
    layers: Sequence[QuantizableLayer],
    parameters: Quantize,
    context: Context,
    advance: Callable[[float], None],
) -> dict[str, NDArray[np.float64]]:
    """Return the second moments of each layer's inputs, by node; nothing without GPTQ."""
    if parameters.algorithm != "gptq" or not layers:
        return {}
    if not context.train:
        raise StepFailed("GPTQ looks at data: name a dataset, or use 'algorithm': 'hqq'.")
    samples = context.train.draw(parameters.calibration_samples, context.seed)
    read = {
        str(layer.node.name): str(value.name)
        for layer in layers
        if (value := layer.node.inputs[0]) is not None and value.graph is model.graph
    }  # what branches and loops hold cannot be seen
    if not read:
        return {}
    sources = list(dict.fromkeys(read.values()))

    def probe(edit: Editor) -> list[str]:
        values = ir.convenience.create_value_mapping(edit.graph)
        return [sums_of(edit, values[name])[0] for name in sources]

    sums = totals(model, probe, samples, context.threads, advance)
    sums_by_value = dict(zip(sources, sums, strict=True))
    return {
        node: sums_by_value[name]
        for node, name in read.items()
        if np.isfinite(sums_by_value[name]).all()
    }


def _quantized(
    weight: NDArray[np.float64], parameters: Quantize, hessian: NDArray[np.float64] | None
) -> Blocks:
    bits, size, symmetric = BITS[parameters.weights], parameters.block_size, parameters.symmetric
    match parameters.algorithm:
        case "gptq" if hessian is not None:
            return blocks.gptq(weight, hessian, bits, size, symmetric=symmetric)
        case "hqq" if not symmetric:
            return blocks.half_quadratic(weight, bits, size)
        case "rtn" | "gptq" | "hqq":
            return blocks.round_to_nearest(weight, bits, size, symmetric=symmetric)
        case algorithm:
            assert_never(algorithm)


def _factors(node: ir.Node) -> tuple[Any, ...]:
    """Return the attributes that determine, with the weight, the matrix of a product."""
    attributes = node.attributes
    return node.op_type, attributes.get_int("transB", 0), attributes.get_float("alpha", 1.0)


@dataclass(frozen=True)
class _Written:
    """A weight in blocks that was added to the graph; all products of the weight share it."""

    blocks: Blocks
    values: list[ir.Value]
    """The packed integers, the scales and, unless symmetric, the zero points."""


def _write(edit: Editor, layer: QuantizableLayer, stored: Blocks, parameters: Quantize) -> _Written:
    """Add a weight's blocks to the graph."""
    name, bits = str(layer.node.name), BITS[parameters.weights]
    values = [
        edit.constant(f"{name}_blocks", blocks.packed(stored.integers, bits, stored.size)),
        edit.constant(f"{name}_scales", stored.scales),
    ]
    if not parameters.symmetric:
        zeros = blocks.packed_zeros(stored.zeros, bits)
        values.append(edit.constant(f"{name}_zero_points", zeros))
    return _Written(stored, values)


def _replace(
    edit: Editor, layer: QuantizableLayer, written: _Written, parameters: Quantize
) -> None:
    """Replace a product by MatMulNBits, and an Add for a bias."""
    node, name = layer.node, str(layer.node.name)
    data = node.inputs[0]
    assert data is not None
    rows, columns = written.blocks.integers.shape
    steps = [
        edit.node(
            "MatMulNBits", [data, *written.values], f"{name}_product", domain=_MICROSOFT,
            K=columns, N=rows, bits=BITS[parameters.weights], block_size=written.blocks.size,
            accuracy_level=_INT8,
        )
    ]  # fmt: skip
    if layer.bias is not None:
        bias = edit.constant(f"{name}_bias", bias_vector(node, constant(layer.bias)))
        steps.append(edit.node("Add", [steps[0].outputs[0], bias], f"{name}_sum"))
    edit.replace(node, steps)


def _change(
    model: ir.Model,
    layer: QuantizableLayer,
    weight: NDArray[np.float64],
    stored: Blocks,
    parameters: Quantize,
) -> LayerChange:
    bits = BITS[parameters.weights]
    bytes_per_block = 4 + (0 if parameters.symmetric else bits / 8)
    stored_dtype = stored_as(model, layer.weights)
    return LayerChange(
        node=str(layer.node.name),
        operator=layer.node.op_type,
        change=f"weights {stored_dtype} → {bits} bits in blocks of {stored.size}",
        bytes_before=layer.weights.size * stored_dtype.itemsize,
        bytes_after=int(weight.size * bits / 8 + stored.scales.size * bytes_per_block),
        sqnr_db=sqnr_db(weight, stored.real()),
    )
