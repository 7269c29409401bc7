"""Dynamic quantization: weights are stored as integers, activations are quantized at run time.

A product ``x @ w`` becomes DynamicQuantizeLinear, MatMulInteger and a multiplication by both
scales, which onnxruntime fuses into one kernel. Activations are uint8, the operator's only type.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial

import numpy as np
import onnx_ir as ir

from app.domain.problems import StepFailed
from app.domain.reports import LayerChange
from app.domain.steps import Quantize
from workers.compression.graph.chance import way_to_newer_opset
from workers.compression.graph.editor import constant
from workers.compression.graph.products import bias_vector
from workers.compression.looking.calibrate import not_finite_tensors
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.integers import weight_rounding
from workers.compression.methods.quantize.judging import judging_of
from workers.compression.methods.quantize.kept import alike, kept_smoothing
from workers.compression.methods.quantize.layers import QuantizableLayer, select
from workers.compression.methods.quantize.selection import Prepared, quantize_profitable
from workers.compression.methods.quantize.smooth import Smoothed, better_graph, smoothing_candidates
from workers.compression.methods.quantize.writer import Writer, change
from workers.compression.samples.context import Context

_OPSET = 11
_FLOAT = int(ir.DataType.FLOAT)


def quantize_dynamic(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Quantize matrix products; with data, smooth their inputs if that is more accurate.

    Layers that are slower in integers stay in float. If the job bounds the loss of quality, further
    layers stay in float until the bound is met.

    Raises:
        StepFailed: the graph's opset is older than DynamicQuantizeLinear.
    """
    prepared = prepare(model, parameters, context)
    judging = judging_of(model, context.train, context)
    return quantize_profitable(prepared, model, parameters, context, advance, judging)


def prepare(model: ir.Model, parameters: Quantize, context: Context) -> Prepared:
    """Smooth a graph where that is more accurate, and leave out what has no range.

    Raises:
        StepFailed: the graph's opset is older than DynamicQuantizeLinear.
    """
    opset = model.graph.opset_imports.get("", 0)
    if opset < _OPSET:
        raise StepFailed(
            f"Dynamic quantization needs opset {_OPSET}; this model has {opset}."
            f" {way_to_newer_opset(model)}"
        )
    run_parameters = parameters.model_copy(update={"activations": "uint8", "symmetric": False})
    excluded = context.prices.figures(
        ("without range", alike(parameters)),
        dict[str, str],
        lambda: _without_range(model, parameters, context),
    )
    write = partial(_write, parameters=parameters, excluded=excluded)

    def smoothed() -> Smoothed:
        rounded = weight_rounding(parameters)
        graphs = smoothing_candidates(model, run_parameters, rounded, context)
        return better_graph(model, graphs, write, run_parameters, context)

    chosen = kept_smoothing(smoothed, model, parameters, context)
    layers = [layer.node for layer in select(chosen.model, parameters)[0]]

    def writer(more_excluded: Mapping[str, str]) -> Outcome:
        return _write(chosen, parameters, {**excluded, **more_excluded})

    return Prepared(writer, layers)


def _without_range(model: ir.Model, parameters: Quantize, context: Context) -> dict[str, str]:
    """Return the products whose input is not finite on the data, each with a reason."""
    data = {
        str(layer.node.name): str(value.name)
        for layer in select(model, parameters)[0]
        if (value := layer.node.inputs[0]) is not None and value.graph is model.graph
    }
    samples = context.samples_or_example(parameters.calibration_samples)
    names = list(dict.fromkeys(data.values()))
    nonfinite = (
        not_finite_tensors(model, names, samples, context.threads) if len(samples) else frozenset()
    )
    reason = "what it reads is not finite on the data: one NaN would spoil the range of a whole run"
    return {node: reason for node, name in data.items() if name in nonfinite}


def _write(graph: Smoothed, parameters: Quantize, excluded: Mapping[str, str]) -> Outcome:
    """Return a quantized copy of a graph, without the excluded nodes."""
    model = graph.model.clone()
    layers, skipped = select(model, parameters, excluded)
    writer = Writer(model)
    inputs: dict[ir.Value, ir.Node] = {}
    changes = [_replace(writer, layer, parameters, inputs, graph.layers) for layer in layers]
    writer.edit.remove_unused()
    return Outcome(model, changes, skipped)


def _replace(
    writer: Writer,
    layer: QuantizableLayer,
    parameters: Quantize,
    inputs: dict[ir.Value, ir.Node],
    smoothed: Collection[str],
) -> LayerChange:
    """Replace a float product by an integer product."""
    node = layer.node
    data = node.inputs[0]
    assert data is not None
    if data not in inputs:
        inputs[data] = writer.edit.node(
            "DynamicQuantizeLinear", [data], f"{data.name}_quantized", f"{data.name}_scale",
            f"{data.name}_zero_point",
        )  # fmt: skip
        writer.edit.insert_after(data, [inputs[data]])
    rounded, scale, zero = inputs[data].outputs
    transposed = bool(node.attributes.get_int("transB", 0))  # MatMulInteger reads [inputs, outputs]
    weight = writer.weight(layer, parameters.weights, transposed=transposed)
    grid, stored = weight.grid, weight.value
    alpha = node.attributes.get_float("alpha", 1.0) if node.op_type == "Gemm" else 1.0
    factor = np.float32(alpha) * grid.scale
    middle = writer.once(grid.zero_point.reshape(-1)[:1].reshape(()))
    product = writer.edit.node(
        "MatMulInteger", [rounded, stored, zero, middle], f"{node.name}_integer"
    )
    product.name = node.name
    steps = [product]
    steps.append(writer.edit.node("Cast", [product.outputs[0]], f"{node.name}_cast", to=_FLOAT))
    scales = writer.edit.constant(f"{stored.name}_scale", factor)
    steps.append(writer.edit.node("Mul", [scale, scales], f"{node.name}_scales"))
    steps.append(
        writer.edit.node("Mul", [steps[1].outputs[0], steps[2].outputs[0]], f"{node.name}_product")
    )
    if layer.bias is not None:
        bias = bias_vector(node, constant(layer.bias))
        added = writer.edit.constant(f"{node.name}_bias", bias)
        steps.append(writer.edit.node("Add", [steps[-1].outputs[0], added], f"{node.name}_sum"))
    how = "activations uint8 at run time" + ", smoothed" * (node.name in smoothed)
    report = change(writer.edit.model, layer, how, weight)
    writer.edit.replace(node, steps)
    return report
