"""ShuffleNetV2 (Ma et al. 2018): each unit convolves half of the channels, then shuffles all."""

import numpy as np
import onnx_ir as ir

from app.domain.layouts import blocks
from workers.compression.architectures.images import image_input
from workers.compression.architectures.interface import Interface
from workers.compression.architectures.network import Network, scaled

_STEM = 24
_STAGES = ((116, 4), (232, 8), (464, 4))
"""For each stage: channels, units."""


def shufflenet_v2(interface: Interface, width: float, seed: int) -> ir.Model:
    """Build the network."""
    source = image_input(interface, "shufflenet_v2", seed)
    net = source.net
    x, channels = net.conv(source.image, (source.channels, _STEM), 3, next(source.strides)), _STEM
    if next(source.strides) == 2:
        x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for base, count in _STAGES:
        half = scaled(base // 2, width, 2)
        x = _downsampling_unit(net, x, (channels, half), next(source.strides))
        channels = 2 * half
        for _ in range(blocks(count, source.side) - 1):
            x = _unit(net, x, half)
    features = scaled(1024, min(width, 1.0))
    x = net.conv(x, (channels, features))
    return net.finish(net.pooled(x), features, interface)


def _downsampling_unit(net: Network, x: ir.Value, sizes: tuple[int, int], stride: int) -> ir.Value:
    inputs, half = sizes
    shortcut = net.conv(x, (inputs, inputs), 3, stride, groups=inputs, act=None)
    shortcut = net.conv(shortcut, (inputs, half))
    return _shuffled(net, shortcut, _branch(net, x, sizes, stride), half)


def _unit(net: Network, x: ir.Value, half: int) -> ir.Value:
    shortcut, residual = (_channels(net, x, np.arange(half) + start) for start in (0, half))
    return _shuffled(net, shortcut, _branch(net, residual, (half, half), 1), half)


def _branch(net: Network, x: ir.Value, sizes: tuple[int, int], stride: int) -> ir.Value:
    inputs, half = sizes
    y = net.conv(x, (inputs, half))
    y = net.conv(y, (half, half), 3, stride, groups=half, act=None)
    return net.conv(y, (half, half))


def _shuffled(net: Network, shortcut: ir.Value, branch: ir.Value, half: int) -> ir.Value:
    order = np.arange(2 * half).reshape(2, half).T.reshape(-1)
    return _channels(net, net.op("Concat", shortcut, branch, axis=1), order)


def _channels(net: Network, x: ir.Value, order: np.ndarray) -> ir.Value:
    return net.op("Gather", x, net.constant(order, "order"), axis=1)
