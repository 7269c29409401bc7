"""Writes the QuantizeLinear/DequantizeLinear pairs (QDQ) of static quantization into a graph.

onnxruntime fuses the pairs into its int8 kernels. The kernels determine the places of the pairs:

1. A convolution computes in int8 if its input, weight and output are quantized and its bias is
   int32. All its neighbours read the quantized values too, so that data flows in int8.
2. A Relu, or a Clip at zero, after a convolution removes the same values that an asymmetric output
   range clips. The range is observed after it, so that no level is wasted, and it is dropped.
3. A matrix product takes quantized inputs and returns floats. Only the product reads the quantized
   values, and a transformer's residual stream stays in float32. Products of two computed tensors
   stay in float: in attention, onnxruntime's int8 kernel takes 1.0-1.2 times as long (16-384
   tokens).
4. Shape operators and MaxPool keep the grid of their input, so that they can run on integers.
5. There are no 16-bit kernels: int16 activations round the inputs, and products run in float. The
   type has enough levels for all observed values, whatever ``ranges`` says. Weights and biases of
   Conv and Gemm are integers in any case: between pairs, onnxruntime (1.32) rounds floats itself.
6. A Sigmoid that multiplies such values returns integers too (``sigmoids``).
7. There are no kernels of fewer than eight bits: such activations use the first levels of uint8,
   and a Clip of the integers between the nodes of a pair enforces that.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from app.domain.steps import Quantize
from workers.compression.graph import runtime
from workers.compression.graph.editor import constant
from workers.compression.graph.products import bias_vector
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.integers import (
    Floats,
    Grid,
    quantize_bias,
    rounded_down,
    weight_grid,
)
from workers.compression.methods.quantize.layers import QuantizableLayer, select
from workers.compression.methods.quantize.sigmoids import write_sigmoids
from workers.compression.methods.quantize.writer import IntegerWeight, Writer, change

_INT32_STEPS = float(2**31 - 1)

Grids = dict[ir.Value, Grid]


@dataclass(frozen=True)
class Site:
    """A layer, and its input and output where the kernel needs them quantized."""

    layer: QuantizableLayer
    data: ir.Value | None
    tail: ir.Value | None

    @property
    def values(self) -> list[ir.Value]:
        """The values that are quantized."""
        return [value for value in (self.data, self.tail) if value is not None]

    def integers(self, parameters: Quantize) -> ir.Value | None:
        """Return the input whose scale the bias uses; None if the product runs in float."""
        product = self.layer.node.op_type == "MatMul"
        return None if product and parameters.activations == "int16" else self.data


def write_quantized(
    model: ir.Model,
    parameters: Quantize,
    grids: Mapping[str, Grid],
    excluded: Mapping[str, str],
    *,
    weights: Mapping[str, Grid] | None = None,
    smoothed: Mapping[str, str] = MappingProxyType({}),
    shifts: Mapping[str, Floats] = MappingProxyType({}),
    rounded: Mapping[str, Floats] = MappingProxyType({}),
    standard: bool = True,
) -> Outcome:
    """Return a quantized copy of a graph.

    Args:
        model: the graph; not changed.
        parameters: the step's parameters.
        grids: the grids of the values to quantize, by name.
        excluded: nodes that stay in float, by name, each with the reason.
        weights: the grids of weights, by name; other weights get new grids.
        smoothed: what was done to the input of layers, by name, for the report.
        shifts: what is added to biases, ``[channels]``, by the layer's name.
        rounded: weights that are not rounded to nearest, by the layer's name.
        standard: whether to write the standard's QuantizeLinear, or that of com.microsoft.
    """
    copy = model.clone()
    nonfinite = {
        str(layer.node.name): "its activations are not finite on the calibration data"
        for layer in select(copy, parameters)[0]
        if any(str(value.name) not in grids for value in site_of(layer, parameters).values)
    }
    layers, skipped = select(copy, parameters, {**excluded, **nonfinite})
    sites = [site_of(layer, parameters) for layer in layers]
    writer = Writer(copy, parameters.activations, standard=standard)
    site_grids = {value: grids[str(value.name)] for site in sites for value in site.values}
    weight_grids = weights or {}
    changes = [
        change(
            copy,
            site.layer,
            _described(site, parameters, smoothed),
            _write_weight(
                writer,
                site,
                parameters,
                site_grids,
                weight_grids.get(str(site.layer.weight.name)),
                shifts.get(str(site.layer.node.name)),
                rounded.get(str(site.layer.node.name)),
            ),
        )
        for site in sites
    ]
    write_pairs(writer, sites, site_grids)
    write_sigmoids(writer, parameters)
    writer.edit.remove_unused()
    return Outcome(copy, changes, skipped)


def runnable(write: Callable[..., Outcome], parameters: Quantize) -> Callable[..., Outcome]:
    """Return ``write_quantized`` with the operators that onnxruntime can load.

    Args:
        write: ``write_quantized`` with all arguments but the excluded nodes.
        parameters: the step's parameters.
    """
    if parameters.activations == "int8" and not _runs(write({}).model):
        return partial(write, standard=False)
    return write


def _runs(model: ir.Model) -> bool:
    """Return whether onnxruntime loads a graph.

    Its optimizer (1.32) turns int8 into uint8. From opset 21 on, it then loses the declared type of
    a QuantizeLinear that it has moved past a Transpose.
    """
    try:
        runtime.session_of(model, optimize=True)
    except Exception:  # noqa: BLE001 (onnxruntime has one class for each status code)
        return False
    return True


def site_of(layer: QuantizableLayer, parameters: Quantize) -> Site:
    """Return a layer with the input and output that are quantized with it."""
    data = layer.node.inputs[0]
    if parameters.activations == "none" or not layer.integer or data is None:
        return Site(layer, None, None)
    flows = layer.node.op_type == "Conv" and parameters.activations != "int16"
    return Site(layer, data, _tail(layer.node, parameters) if flows else None)


def _tail(node: ir.Node, parameters: Quantize) -> ir.Value:
    """Return a convolution's output; after its activation, if the range can replace that."""
    value = node.outputs[0]
    users = value.consumers()
    if parameters.symmetric or len(value.uses()) != 1 or value.is_graph_output():
        return value
    user = users[0]
    return user.outputs[0] if user.graph is node.graph and _cuts_at_zero(user) else value


def _cuts_at_zero(node: ir.Node) -> bool:
    """Return whether a node is a Relu, or a Clip from zero to a constant."""
    if node.op_type == "Relu":
        return True
    bounds = [value for value in node.inputs[1:] if value is not None]
    if node.op_type != "Clip" or len(bounds) < 2 or not all(b.is_initializer() for b in bounds):
        return False
    return float(constant(bounds[0])) == 0 < float(constant(bounds[1]))


def covers(clip: ir.Node, grid: Grid) -> bool:
    """Return whether a node is a Relu or Clip that changes no value of a grid."""
    return _cuts_at_zero(clip) and grid.bounds[0] >= 0 and float(grid.scale) <= coarsest(clip, grid)


def coarsest(clip: ir.Node, grid: Grid) -> float:
    """Return the largest scale with which a grid's levels stay below the upper bound of a Clip."""
    limit = clip.inputs[2] if clip.op_type == "Clip" else None
    steps = grid.limits[1] - int(grid.zero_point)
    return math.inf if limit is None else float(rounded_down(float(constant(limit)) / steps))


def _write_weight(
    writer: Writer,
    site: Site,
    parameters: Quantize,
    grids: Grids,
    given_grid: Grid | None,
    shift: Floats | None,
    rounded: Floats | None,
) -> IntegerWeight:
    """Store a layer's weight as integers, and its bias if the kernel adds integers."""
    layer, node = site.layer, site.layer.node
    bias = None if layer.bias is None else bias_vector(node, constant(layer.bias))
    if bias is not None and shift is not None:
        bias = bias + shift
    data = site.integers(parameters)
    scale = None if data is None else grids[data].scale
    smallest = smallest_scale(layer, scale)
    stored = writer.weight(layer, parameters.weights, smallest, grid=given_grid, rounded=rounded)
    grid = stored.grid
    if node.op_type == "Gather":
        writer.dequantize_after(node, stored.value, grid)
    elif data is not None:
        writer.dequantize_before(node, 1, stored.value, grid)
    else:
        writer.multiply_before(node, 1, stored)
    if bias is not None and scale is not None:
        units = Grid(grid.scale * scale, np.zeros(grid.scale.shape, np.int32), _first(grid))
        integers = writer.edit.constant(
            f"{node.name}_bias_quantized", quantize_bias(bias, units.scale)
        )
        writer.dequantize_before(node, 2, integers, units)
        if node.op_type == "Gemm":
            node.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    return stored


def _described(site: Site, parameters: Quantize, smoothed: Mapping[str, str]) -> str:
    """Describe how a layer computes, for the report."""
    words = ["computed in float"]
    if site.data is not None:
        words = [f"activations {parameters.activations}", f"ranges {parameters.range_rules[0]}"]
    name = str(site.layer.node.name)
    return ", ".join([*words, *([smoothed[name]] if name in smoothed else [])])


def stored_grid(site: Site, parameters: Quantize, grids: Mapping[str, Grid]) -> Grid:
    """Return the grid that the weights of a layer are rounded to.

    Args:
        site: the layer, with the values around it.
        parameters: the types of weights and activations.
        grids: the grids of values, by name.
    """
    layer, data = site.layer, site.integers(parameters)
    data_grid = grids.get(str(data.name)) if data is not None else None
    smallest = smallest_scale(layer, None if data_grid is None else data_grid.scale)
    return weight_grid(layer.weights, parameters.weights, layer.axis, smallest)


def smallest_scale(layer: QuantizableLayer, scale: Floats | None) -> Floats | float:
    """Return the smallest scale of a weight with which the layer's bias fits int32.

    Args:
        layer: the layer.
        scale: the scale of the layer's input; None if its bias stays in float.
    """
    if layer.bias is None or scale is None:
        return 0.0
    bias = bias_vector(layer.node, constant(layer.bias))
    needed = np.abs(bias) / (scale * np.float32(_INT32_STEPS)) * np.float32(1.001)
    return needed if layer.axis is not None else float(needed.max(initial=0.0))


def _first(grid: Grid) -> int | None:
    return None if grid.axis is None else 0


def write_pairs(writer: Writer, sites: list[Site], grids: Grids) -> None:
    """Add one pair after every value that is quantized, and redirect its readers."""
    flowing = {value for site in sites if site.tail is not None for value in site.values}
    for site in sites:
        if site.tail is not None:
            writer.quantize_output(site.tail, grids[site.tail])
            clip = site.tail.producer()
            if clip is not None and covers(clip, grids[site.tail]):
                writer.edit.bypass(clip)
    tails = {site.tail for site in sites}
    for value in dict.fromkeys(site.data for site in sites if site.data is not None):
        if value in tails:
            continue
        readers = None if value in flowing else [s.layer.node for s in sites if s.data is value]
        writer.quantize_input(value, grids[value], readers)
