"""Equalization: channels between two convolutions are scaled so that one grid fits them all.

What flows between convolutions has one scale, and a channel whose values are small uses few of its
levels. ``conv2(relu(conv1(x)))`` stays the same if channel ``c`` of the first one's weight and bias
is divided by a positive factor, and the second one's weight for ``c`` multiplied by it: Nagel et
al., "Data-free quantization through weight equalization and bias correction" (2019), section 4.1.
There factors equalize the ranges of weights. Here weights have a scale for each output channel, so
that nothing can be gained in them: factors equalize activations, whose ranges data shows.

A depthwise convolution multiplies each channel alone, and its scales take up any factor: there all
channels get the same range. Other convolutions mix channels, and a factor makes some weights of an
output large beside others: there the factors with the least estimated error are taken, as in
``smooth``.

Refused are values that other nodes read too, or that pass through anything but Relu, LeakyRelu,
Identity and MaxPool: a Clip at 6 does not move with a factor. Convolutions of some groups are
refused as well.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from app.domain.steps import Quantize
from workers.compression.graph.editor import Editor
from workers.compression.graph.operators import key_of
from workers.compression.looking.channels import Array, ChannelStatistics, channel_statistics
from workers.compression.looking.probe import AXES_AS_INPUT
from workers.compression.methods.quantize.folding import Slot, constant_slots, multiply
from workers.compression.methods.quantize.layers import QuantizableLayer, select
from workers.compression.methods.quantize.smooth import (
    FOLDED,
    LEAST,
    Round,
    Smoothed,
    search,
    smoothing_candidates,
    where_allowed,
)
from workers.compression.samples.context import Context, Samples

_POSITIVE = {("", name) for name in ("Identity", "LeakyRelu", "MaxPool", "Relu")}
"""Operators ``f`` with ``f(s · x) = s · f(x)`` for a positive ``s`` for each channel."""

_UNEVEN = 2.0
"""The least ratio of the largest channel to the smallest for which factors are worth it."""


def candidates(
    model: ir.Model, parameters: Quantize, rounded: Round, context: Context
) -> list[Smoothed]:
    """Return the graphs to choose from: with what was asked for, and with channels equalized too.

    Whatever the parameters force, each of the graphs has; the last one also has what they leave to
    the choice.
    """
    equalized = where_allowed(equalize, parameters.equalize, model, parameters, rounded, context)
    after = smoothing_candidates(equalized.model, parameters, rounded, context)
    graphs = [Smoothed(each.model, {**equalized.layers, **each.layers}) for each in after]
    if parameters.equalize or not equalized.layers:
        return graphs
    before = [Smoothed(model, {})]
    if parameters.smooth:
        before = smoothing_candidates(model, parameters, rounded, context)
    return [*before, graphs[-1]]


def equalize(
    model: ir.Model, parameters: Quantize, rounded: Round, samples: Samples, threads: int
) -> Smoothed:
    """Return a copy of a graph with the same outputs, and with channels of like range.

    Args:
        model: the graph; not changed.
        parameters: the convolutions to quantize, and the type of activations.
        rounded: rounds weights to their grid.
        samples: the samples that ranges are observed on, in one pass.
        threads: the number of threads.
    """
    copy = model.clone()
    places = _places(copy, parameters)
    if not places or model.graph.opset_imports.get("", 0) < AXES_AS_INPUT:
        return Smoothed(model, {})
    ranks: dict[ir.Value, int | None] = {
        value: layers[0].weights.ndim for value, (_, layers) in places.items()
    }
    statistics = channel_statistics(copy, ranks, samples, threads)
    edit, done = Editor(copy), dict[str, str]()
    for value, (slots, layers) in places.items():
        factors = _factors(statistics[value], layers, rounded, parameters)
        if factors is None:
            continue
        for slot in slots:
            multiply(edit, slot, 1 / factors, axis=0)
        for layer in layers:
            multiply(edit, (layer.node, 1), factors, axis=0 if _is_depthwise(layer) else 1)
            done[str(layer.node.name)] = "equalized"
    edit.remove_unused()
    return Smoothed(copy, done) if done else Smoothed(model, {})


def _places(
    model: ir.Model, parameters: Quantize
) -> dict[ir.Value, tuple[list[Slot], list[QuantizableLayer]]]:
    """Return the values between convolutions, with the constants to divide and all the readers."""
    readers: dict[ir.Value, list[QuantizableLayer]] = {}
    for layer in select(model, parameters)[0]:
        data = layer.node.inputs[0]
        if layer.node.op_type == "Conv" and layer.integer and data is not None:
            readers.setdefault(data, []).append(layer)
    places = {}
    for value, layers in readers.items():
        slots = _slots(value, [layer.node for layer in layers])
        if slots is not None and all(_takes_factors(layer) for layer in layers):
            places[value] = slots, layers
    return places


def _slots(value: ir.Value, readers: Sequence[ir.Node]) -> list[Slot] | None:
    """Return weight and bias of the convolution that makes a value; None if they are no constants.

    None as well if anything between convolution and value does not bear factors.
    """
    node = _only_maker(value, readers)
    while node is not None and key_of(node) in _POSITIVE:
        data = node.inputs[0]
        node = None if data is None else _only_maker(data, [node])
    if node is None or key_of(node) != ("", "Conv"):
        return None
    return constant_slots(node, (1, 2))


def _only_maker(value: ir.Value, readers: Sequence[ir.Node]) -> ir.Node | None:
    """Return the node that makes a value alone; None if others than the readers see the value."""
    alone = not value.is_graph_output() and all(user in readers for user in value.consumers())
    node = value.producer()
    return node if alone and node is not None and len(node.outputs) == 1 else None


def _takes_factors(layer: QuantizableLayer) -> bool:
    """Return whether a convolution's weight alone can take up factors of what it reads."""
    whole = layer.node.attributes.get_int("group", 1) == 1
    return len(layer.weight.uses()) == 1 and (whole or _is_depthwise(layer))


def _is_depthwise(layer: QuantizableLayer) -> bool:
    """Return whether each output has one input of its own, and a scale of its own."""
    outputs, inputs, *_ = layer.weights.shape
    groups = layer.node.attributes.get_int("group", 1)
    return groups == outputs > 1 == inputs and layer.axis == 0


def _factors(
    channels: ChannelStatistics,
    layers: Sequence[QuantizableLayer],
    rounded: Round,
    parameters: Quantize,
) -> Array | None:
    """Return the divisors of the channels, ``[C]``; None where they would not gain enough."""
    largest = float(channels.magnitude.max(initial=0.0)) if channels.finite else 0.0
    if largest == 0:
        return None
    # A channel that these samples never touch costs nothing, and others may: it keeps its room.
    dead = channels.magnitude == 0
    share = np.where(dead, 1.0, np.maximum(channels.magnitude / largest, LEAST))
    if share.min() * _UNEVEN > 1:
        return None
    mixing = [layer.weights for layer in layers if not _is_depthwise(layer)]
    if not mixing:
        return share
    taps = [array.reshape(*array.shape[:2], -1).astype(np.float64) for array in mixing]
    most = max(array.shape[2] for array in taps)
    padded = [np.pad(array, ((0, 0), (0, 0), (0, most - array.shape[2]))) for array in taps]
    weights = np.concatenate(padded).transpose(0, 2, 1)
    outputs, _, inputs = weights.shape
    spread = ChannelStatistics(
        *(np.tile(each, most) for each in (channels.low, channels.high, channels.power))
    )
    found = search(spread, weights.reshape(outputs, most * inputs), rounded, parameters, FOLDED)
    return None if found is None else found[:inputs]
