"""Where the pairs of static quantization stand, and how they are written into a graph.

onnxruntime fuses QuantizeLinear/DequantizeLinear pairs (QDQ) into its int8 kernels, and where they
stand follows from those kernels:

1. A convolution computes in int8 when its input, weight and output are quantized and its bias is
   int32; so all its neighbours read the quantized values too, and data flows in int8.
2. A Relu, or a Clip at zero, after a convolution cuts off what an asymmetric output range cuts off
   too: the range is found behind it, no level is spent on what it removes, and it is dropped.
3. A matrix product takes quantized inputs and gives float: only it reads the quantized values, and
   a transformer's residual stream stays in float32. Products of two computed tensors stay in float:
   onnxruntime's int8 form of attention's takes 1.0-1.2 times as long (16-384 tokens).
4. Shape operators and MaxPool keep their input's grid, so that they can run on the integers.
5. There are no 16-bit kernels: int16 activations round the inputs, and products run in float. They
   have levels enough to cover all that was seen, whatever ``ranges`` says. Weights and biases of
   Conv and Gemm are integers all the same: between pairs, onnxruntime (1.32) rounds floats itself.
6. Nor are there any of fewer bits: such activations are the first levels of uint8, and a Clip of
   the integers between the nodes of a pair keeps them there.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

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
)
from workers.compression.methods.quantize.layers import Layer, select
from workers.compression.methods.quantize.writer import Stored, Writer, change

_INT32_STEPS = float(2**31 - 1)

Grids = dict[ir.Value, Grid]


@dataclass(frozen=True)
class Site:
    """A layer and the values around it that its kernel needs quantized."""

    layer: Layer
    data: ir.Value | None
    tail: ir.Value | None

    @property
    def values(self) -> list[ir.Value]:
        """Those values."""
        return [value for value in (self.data, self.tail) if value is not None]

    def integers(self, parameters: Quantize) -> ir.Value | None:
        """The input in whose units a bias is counted; None where weights are read as floats."""
        product = self.layer.node.op_type == "MatMul"
        return None if product and parameters.activations == "int16" else self.data


def write_quantized(
    model: ir.Model,
    parameters: Quantize,
    grids: Mapping[str, Grid],
    left: Mapping[str, str],
    *,
    weights: Mapping[str, Grid] | None = None,
    smoothed: Collection[str] = (),
    standard: bool = True,
) -> Outcome:
    """Return a quantized copy of a graph.

    Args:
        model: the graph; not changed.
        parameters: what to do.
        grids: of the values to quantize, by name.
        left: nodes that stay in float, each with the reason.
        weights: grids of the weights, by name, where they are known already.
        smoothed: names of the nodes to report as such.
        standard: write the standard's QuantizeLinear, not onnxruntime's own.
    """
    copy = model.clone()
    odd = {
        str(layer.node.name): "its activations are not finite on the calibration data"
        for layer in select(copy, parameters)[0]
        if any(str(value.name) not in grids for value in site_of(layer, parameters).values)
    }
    layers, skipped = select(copy, parameters, {**left, **odd})
    sites = [site_of(layer, parameters) for layer in layers]
    writer = Writer(copy, parameters.activations, standard=standard)
    found = {value: grids[str(value.name)] for site in sites for value in site.values}
    known = weights or {}
    changes = [
        change(
            copy,
            site.layer,
            _described(site, parameters, smoothed),
            _write_weight(writer, site, parameters, found, known.get(str(site.layer.weight.name))),
        )
        for site in sites
    ]
    write_pairs(writer, sites, found)
    writer.edit.remove_unused()
    return Outcome(copy, changes, skipped)


def runnable(write: Callable[..., Outcome], parameters: Quantize) -> Callable[..., Outcome]:
    """Return ``write_quantized`` with what makes onnxruntime take its graphs.

    Args:
        write: it, but for the nodes that stay in float.
        parameters: what it was given.
    """
    if parameters.activations == "int8" and not _runs(write({}).model):
        return partial(write, standard=False)
    return write


def _runs(model: ir.Model) -> bool:
    """Return whether onnxruntime takes a graph.

    Its optimizer (1.32) turns int8 into uint8 and, from opset 21 on, forgets the type that a
    QuantizeLinear which it has moved past a Transpose is said to give.
    """
    try:
        runtime.session_of(model, optimize=True)
    except Exception:  # noqa: BLE001 (onnxruntime has one class for each status code)
        return False
    return True


def site_of(layer: Layer, parameters: Quantize) -> Site:
    """Return which values around a layer are quantized too."""
    data = layer.node.inputs[0]
    if parameters.activations == "none" or not layer.integer or data is None:
        return Site(layer, None, None)
    flows = layer.node.op_type == "Conv" and parameters.activations != "int16"
    return Site(layer, data, _tail(layer.node, parameters) if flows else None)


def _tail(node: ir.Node, parameters: Quantize) -> ir.Value:
    """Return a convolution's output, behind the activation that its range absorbs."""
    value = node.outputs[0]
    users = value.consumers()
    if parameters.symmetric or len(value.uses()) != 1 or value.is_graph_output():
        return value
    after = users[0]
    return after.outputs[0] if after.graph is node.graph and _cuts_at_zero(after) else value


def _cuts_at_zero(node: ir.Node) -> bool:
    """Return whether a node is a Relu, or a Clip from zero to a constant."""
    if node.op_type == "Relu":
        return True
    bounds = [value for value in node.inputs[1:] if value is not None]
    if node.op_type != "Clip" or len(bounds) < 2 or not all(b.is_initializer() for b in bounds):
        return False
    return float(constant(bounds[0])) == 0 < float(constant(bounds[1]))


def covers(cut: ir.Node, grid: Grid) -> bool:
    """Return whether a node is a Relu or Clip that all values of a grid pass unchanged."""
    return _cuts_at_zero(cut) and grid.bounds[0] >= 0 and float(grid.scale) <= coarsest(cut, grid)


def coarsest(cut: ir.Node, grid: Grid) -> float:
    """Return the largest scale with which the levels of a grid stay below the end of a Clip."""
    limit = cut.inputs[2] if cut.op_type == "Clip" else None
    steps = grid.limits[1] - int(grid.zero_point)
    return math.inf if limit is None else float(rounded_down(float(constant(limit)) / steps))


def _write_weight(
    writer: Writer, site: Site, parameters: Quantize, grids: Grids, known: Grid | None
) -> Stored:
    """Store a layer's weight, and its bias where the kernel adds integers."""
    layer, node = site.layer, site.layer.node
    bias = None if layer.bias is None else bias_vector(node, constant(layer.bias))
    data = site.integers(parameters)
    scale = None if data is None else grids[data].scale
    smallest = smallest_scale(layer, scale)
    stored = writer.weight(layer, parameters.weights, smallest, grid=known)
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


def _described(site: Site, parameters: Quantize, smoothed: Collection[str]) -> str:
    """Say how a layer computes."""
    words = ["computed in float"]
    if site.data is not None:
        words = [f"activations {parameters.activations}", f"ranges {parameters.range_rules[0]}"]
    return ", ".join([*words, *["smoothed"] * (site.layer.node.name in smoothed)])


def smallest_scale(layer: Layer, scale: Floats | None) -> Floats | float:
    """Return how fine a weight's scale may be for the layer's bias to fit int32 in its units.

    Args:
        layer: whose weight and bias.
        scale: of what the layer reads; None where its bias stays in float.
    """
    if layer.bias is None or scale is None:
        return 0.0
    bias = bias_vector(layer.node, constant(layer.bias))
    needed = np.abs(bias) / (scale * np.float32(_INT32_STEPS)) * np.float32(1.001)
    return needed if layer.axis is not None else float(needed.max(initial=0.0))


def _first(grid: Grid) -> int | None:
    return None if grid.axis is None else 0


def write_pairs(writer: Writer, sites: list[Site], grids: Grids) -> None:
    """Put one pair behind every value, and let those read it that should."""
    flowing = {value for site in sites if site.tail is not None for value in site.values}
    for site in sites:
        if site.tail is not None:
            writer.quantize_output(site.tail, grids[site.tail])
            cut = site.tail.producer()
            if cut is not None and covers(cut, grids[site.tail]):
                writer.edit.bypass(cut)
    tails = {site.tail for site in sites}
    for value in dict.fromkeys(site.data for site in sites if site.data is not None):
        if value in tails:
            continue
        readers = None if value in flowing else [s.layer.node for s in sites if s.data is value]
        writer.quantize_input(value, grids[value], readers)
