"""Smoothing: what stretches an activation's range is moved into the weights that multiply it.

A few channels of a transformer's activations are many times as large as the others, and one scale
for all leaves the others few levels. ``x @ w`` is ``(x / s) @ (s · w)`` for any positive ``s`` for
each channel: SmoothQuant (Xiao et al. 2023). All products that read one value share its ``s``; how
strong it is, is searched for each value as in AWQ (Lin et al. 2023), by the error of the rounded
products. That error needs no products, only three figures of each channel (see ``_error``).

The division is folded into what makes the value: the scale and offset of a normalisation, constants
that it is multiplied by or added to, the columns of a matrix, also behind a Relu or one side of a
gate. Where that cannot be (a Gelu, a residual that reads the value too) it is a Mul, which has to
pay for itself.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.problems import DatasetMismatch
from app.domain.steps import Quantize
from workers.compression.graph.editor import Editor, constant
from workers.compression.graph.operators import operand
from workers.compression.graph.products import matrix
from workers.compression.looking.probe import runs, show
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize.integers import BITS, STORED_BITS, range_grid
from workers.compression.methods.quantize.layers import Layer, select
from workers.compression.methods.quantize.nearest import nearness, parted
from workers.compression.samples.context import Context, Samples

Array = NDArray[np.float64]
Round = Callable[[Array], Array]
"""From a matrix ``[outputs, inputs]`` to what is left of it in few bits."""

_STRENGTHS = (0.25, 0.5, 0.75)
"""Powers of the channels' magnitudes to divide by: 1 makes all channels alike."""
_CUTS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Parts of the greatest magnitude that only what is above it is brought down to."""
_LEAST = 0.01
"""The least magnitude of a channel, of the greatest: rarer values than were seen still fit."""

MARGIN = 0.5
"""dB that the outputs must be nearer for a graph to be smoothed."""

_FOLDED, _MULTIPLIED = 0.9, 0.5
"""The error that must be left, of the error before, for a fold, and for a node more."""

_AXES_AS_INPUT = 18
"""The first opset whose ReduceMin reads its axes."""

_NORMALISATIONS = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
_POSITIVE = ("Identity", "LeakyRelu", "Relu")
"""What these give of ``x / s`` is what they give of ``x``, over ``s``."""

_SEES_SIZE = ("Shape", "Size")

Slot = tuple[ir.Node, int]


@dataclass(frozen=True)
class Channels:
    """What the channels of a value held on data, ``[C]`` each."""

    low: Array
    high: Array
    power: Array
    """The mean of the squares."""


@dataclass(frozen=True)
class Smoothed:
    """A graph that answers as before, with values that are easier to round."""

    model: ir.Model
    layers: frozenset[str]
    """Names of the products whose input was smoothed."""


def candidates(
    model: ir.Model, parameters: Quantize, rounded: Round, context: Context
) -> list[Smoothed]:
    """Return a graph as it is, smoothed, or both, as the parameters say and the data allow."""
    plain = Smoothed(model, frozenset())
    if parameters.smooth is False or context.train is None or not len(context.train):
        return [plain]
    samples, _ = parted(context.train, parameters, context.seed)
    try:
        found = smooth(model, parameters, rounded, samples, context.threads)
    except DatasetMismatch:  # a value without elements on some sample has no extremes
        return [plain]
    if not found.layers:
        return [plain]
    return [found] if parameters.smooth else [plain, found]


def nearer(
    model: ir.Model,
    graphs: Sequence[Smoothed],
    write: Callable[[Smoothed], Outcome],
    parameters: Quantize,
    context: Context,
) -> Smoothed:
    """Return the graph, as it is or smoothed, that answers more like it in float once written.

    Args:
        model: the graph in float; not changed.
        graphs: of ``candidates``.
        write: quantizes a copy.
        parameters: what calibration looked at.
        context: the data.
    """
    if len(graphs) == 1:
        return graphs[0]
    written = (write(graph).model for graph in graphs)
    before, after = nearness(model, written, parameters, context)
    return graphs[int(after > before + MARGIN)]


def smooth(
    model: ir.Model,
    parameters: Quantize,
    rounded: Round,
    samples: Samples,
    threads: int,
) -> Smoothed:
    """Return a smoothed copy of a graph.

    Left alone: products whose weight is shared or that are not to be quantized, values that are not
    finite on the data, and those whose products gain too little.

    Args:
        model: the graph; not changed.
        parameters: which products are quantized, and the type of activations.
        rounded: how weights are.
        samples: one pass runs over all of them.
        threads: the number of threads.
    """
    copy = model.clone()
    sites = _sites(copy, parameters)
    if not sites or model.graph.opset_imports.get("", 0) < _AXES_AS_INPUT:
        return Smoothed(model, frozenset())
    seen = _observe(copy, list(sites), samples, threads)
    edit, found = Editor(copy), set()
    for value, layers in sites.items():
        channels = seen[value]
        if not np.isfinite([channels.low, channels.high, channels.power]).all():
            continue
        slots = _folding(value, {layer.node for layer in layers})
        weights = np.concatenate([matrix(x.node, x.weights.astype(np.float64)) for x in layers])
        most = _MULTIPLIED if slots is None else _FOLDED
        scales = search(channels, weights, rounded, parameters, most)
        if scales is None:
            continue
        _divide(edit, value, scales, layers, slots)
        for layer in layers:
            _scale(edit, (layer.node, 1), scales, rows=True)
            found.add(str(layer.node.name))
    edit.remove_unused()
    return Smoothed(copy, frozenset(found)) if found else Smoothed(model, frozenset())


def search(
    channels: Channels, weights: Array, rounded: Round, parameters: Quantize, most: float
) -> Array | None:
    """Return what to divide each channel by, ``[C]``, so that the products' error is least.

    Args:
        channels: of what is multiplied.
        weights: ``[outputs, C]``.
        rounded: how weights are.
        parameters: the type of activations.
        most: the error that may be left, of the error without smoothing.

    Returns:
        Positive factors; None where less is gained.
    """
    magnitude = np.maximum(-channels.low, channels.high)
    largest = float(magnitude.max(initial=0.0))
    if largest == 0:
        return None
    least = most * _error(channels, weights, rounded, parameters, np.ones(len(magnitude)))
    best = None
    for scales in _candidates(np.maximum(magnitude / largest, _LEAST)):
        error = _error(channels, weights, rounded, parameters, scales)
        if error < least:
            best, least = scales, error
    return best


def _candidates(magnitude: Array) -> list[Array]:
    """Return ways to divide channels, from their magnitudes relative to the greatest."""
    powers = [magnitude**strength for strength in _STRENGTHS]
    return [
        *(scales / np.exp(np.mean(np.log(scales))) for scales in powers),
        *(np.maximum(magnitude * cut, 1.0) for cut in _CUTS),
    ]


def _error(
    channels: Channels, weights: Array, rounded: Round, parameters: Quantize, scales: Array
) -> float:
    """Return the squared error of rounded products, a row's mean, summed over the outputs.

    Activations are off by noise of a twelfth of their step squared, the same in each channel, and
    pass through the weights; the weights' errors pass through the channels' power. Rounding is
    taken for independent in each channel: with eight bits the sum was within 0.2 dB of the error of
    computed products for most values of two transformers, and 1.3 dB off for the worst.
    """
    scaled = weights * scales
    left = rounded(scaled)
    error = float(np.sum(np.square(left - scaled).sum(0) * channels.power / scales**2))
    if BITS.get(parameters.activations, STORED_BITS + 1) <= STORED_BITS:
        low, high = float((channels.low / scales).min()), float((channels.high / scales).max())
        grid = range_grid(low, high, parameters.activations, symmetric=parameters.symmetric)
        error += float(np.square(np.float64(grid.scale))) / 12 * float(np.square(left).sum())
    return error


def _sites(model: ir.Model, parameters: Quantize) -> dict[ir.Value, list[Layer]]:
    """Return the values that products read, with those products."""
    found: dict[ir.Value, list[Layer]] = {}
    for layer in select(model, parameters)[0]:
        data = layer.node.inputs[0]
        fits = layer.node.op_type in ("Gemm", "MatMul") and layer.weights.ndim == 2
        inside = layer.node.graph is model.graph  # what branches and loops hold cannot be seen
        if fits and inside and len(layer.weight.uses()) == 1 and data is not None:
            found.setdefault(data, []).append(layer)
    return {value: layers for value, layers in found.items() if not value.is_initializer()}


def _observe(
    model: ir.Model,
    values: Sequence[ir.Value],
    samples: Samples,
    threads: int,
) -> dict[ir.Value, Channels]:
    """Run a graph on samples and return what the channels of values held."""
    names = [str(value.name) for value in values]

    def probe(edit: Editor) -> list[str]:
        inside = ir.convenience.create_value_mapping(edit.graph)
        axes = edit.constant("channel_axes", np.array([0]))
        wanted = []
        for name in names:
            flat = edit.node("Flatten", [inside[name]], f"{name}_flat", axis=-1)
            edit.graph.append(flat)
            rows = [flat.outputs[0], axes]
            for operator in ("ReduceMin", "ReduceMax", "ReduceSumSquare"):
                reduced = edit.node(operator, rows, f"{name}_{operator}", keepdims=0)
                wanted.append(show(edit, reduced))
            size = edit.node("Size", [flat.outputs[0]], f"{name}_size")
            wanted.append(show(edit, size, ir.DataType.INT64))
        return wanted

    low, high, squares, sizes = ({name: np.array(start) for name in names} for start in
                                 (np.inf, -np.inf, 0.0, 0.0))  # fmt: skip
    for batch in runs(model, probe, samples, threads, lambda _: None):
        for index, name in enumerate(names):
            least, most, square, size = (a.astype(np.float64) for a in batch[4 * index :][:4])
            low[name], high[name] = np.minimum(low[name], least), np.maximum(high[name], most)
            squares[name], sizes[name] = squares[name] + square, sizes[name] + size
    return {
        value: Channels(low[name], high[name], squares[name] * low[name].size / max(sizes[name], 1))
        for value, name in zip(values, names, strict=True)
    }


def _folding(value: ir.Value, readers: Collection[ir.Node]) -> list[Slot] | None:
    """Return which constants to divide for a value to be divided; None if others would notice.

    Args:
        value: whose last axis is divided.
        readers: the nodes that may read it.
    """
    node = value.producer()
    others = [user for user in value.consumers() if user not in readers]
    if node is None or value.is_graph_output() or any(o.op_type not in _SEES_SIZE for o in others):
        return None
    if node.op_type in _NORMALISATIONS:
        return _normalising(node, value)
    if node.op_type in ("Gemm", "MatMul"):
        return _constants(node, (1, 2), rank=2)
    if node.op_type in ("Add", "Mul"):
        return _elementwise(node)
    return _behind(node, 0) if node.op_type in _POSITIVE else None


def _elementwise(node: ir.Node) -> list[Slot] | None:
    """Return the constant of a sum, and what is before it; of a product any one factor."""
    fixed = next((slot for slot in (0, 1) if _constants(node, (slot,))), None)
    if node.op_type == "Mul":
        return [(node, fixed)] if fixed is not None else _behind(node, 1) or _behind(node, 0)
    before = None if fixed is None else _behind(node, 1 - fixed)
    return None if before is None or fixed is None else [(node, fixed), *before]


def _behind(node: ir.Node, slot: int) -> list[Slot] | None:
    """Return where a division of what a node reads can be folded, if only it reads it."""
    before = node.inputs[slot]
    if before is None or sum(user is node for user, _ in before.uses()) > 1:
        return None
    return _folding(before, {node})


def _normalising(node: ir.Node, value: ir.Value) -> list[Slot] | None:
    """Return the scale and the offset of a normalisation over the last axis."""
    axis = node.attributes.get_int("axis", -1)
    last = axis == -1 or (value.shape is not None and axis == len(value.shape) - 1)
    return _constants(node, (1, 2), rank=1) if last else None


def _constants(node: ir.Node, slots: Sequence[int], rank: int | None = None) -> list[Slot] | None:
    """Return those of a node's inputs that are there; None unless all are float constants.

    Args:
        node: whose inputs.
        slots: their positions.
        rank: of the first one; None for any.
    """
    found = [(node, slot) for slot in slots if operand(node, slot) is not None]
    for _, slot in found:
        value = node.inputs[slot]
        fixed = value is not None and value.is_initializer() and not value.is_graph_input()
        if value is None or not fixed or value.dtype != ir.DataType.FLOAT:
            return None
    first = found[0][0].inputs[found[0][1]] if found else None
    if first is None or (rank is not None and constant(first).ndim != rank):
        return None
    return found


def _divide(
    edit: Editor,
    value: ir.Value,
    scales: Array,
    layers: Sequence[Layer],
    slots: Sequence[Slot] | None,
) -> None:
    """Let products read a value that is divided by ``scales``."""
    if slots is not None:
        for slot in slots:
            _scale(edit, slot, 1 / scales, rows=False)
        return
    factors = edit.constant(f"{value.name}_smoothing", (1 / scales).astype(np.float32))
    divided = edit.node("Mul", [value, factors], f"{value.name}_smoothed")
    divided.outputs[0].shape, divided.outputs[0].type = value.shape, value.type
    edit.insert_after(value, [divided])
    for layer in layers:
        layer.node.replace_input_with(0, divided.outputs[0])


def _scale(edit: Editor, slot: Slot, factors: Array, *, rows: bool) -> None:
    """Multiply a constant that a node reads by factors for its channels.

    Args:
        edit: of the graph.
        slot: the node, and where it reads the constant.
        factors: ``[C]``.
        rows: they count what a matrix reads, not what it gives.
    """
    node, position = slot
    value = node.inputs[position]
    assert value is not None
    turned = position == 1 and node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))
    first = rows != turned
    array = constant(value)
    scaled = (array * (factors[:, None] if first else factors)).astype(np.float32)
    if len(value.uses()) == 1:
        value.const_value, value.shape = ir.Tensor(scaled, name=value.name), ir.Shape(scaled.shape)
    else:
        node.replace_input_with(position, edit.constant(f"{value.name}_smoothed", scaled))
