"""ShuffleNetV2 (Ma et al. 2018): half of the channels pass through, then halves are mixed."""

import numpy as np
import onnx_ir as ir

from app.domain.layouts import blocks
from workers.compression.architectures.images import begin
from workers.compression.architectures.interface import Interface
from workers.compression.architectures.network import Network, scaled

_STEM = 24
_STAGES = ((116, 4), (232, 8), (464, 4))
"""Channels, blocks."""


def shufflenet_v2(interface: Interface, width: float, seed: int) -> ir.Model:
    """Build the network."""
    start = begin(interface, "shufflenet_v2", seed)
    net = start.net
    x, channels = net.conv(start.image, (start.channels, _STEM), 3, next(start.strides)), _STEM
    if next(start.strides) == 2:
        x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for wish, usual in _STAGES:
        half = scaled(wish // 2, width, 2)
        x = _first(net, x, (channels, half), next(start.strides))
        channels = 2 * half
        for _ in range(blocks(usual, start.side) - 1):
            x = _next(net, x, half)
    last = scaled(1024, min(width, 1.0))
    x = net.conv(x, (channels, last))
    return net.answer(net.pooled(x), last, interface)


def _first(net: Network, x: ir.Value, sizes: tuple[int, int], stride: int) -> ir.Value:
    read, half = sizes
    left = net.conv(x, (read, read), 3, stride, groups=read, act=None)
    left = net.conv(left, (read, half))
    return _mixed(net, left, _branch(net, x, sizes, stride), half)


def _next(net: Network, x: ir.Value, half: int) -> ir.Value:
    left, right = (_channels(net, x, np.arange(half) + start) for start in (0, half))
    return _mixed(net, left, _branch(net, right, (half, half), 1), half)


def _branch(net: Network, x: ir.Value, sizes: tuple[int, int], stride: int) -> ir.Value:
    read, half = sizes
    y = net.conv(x, (read, half))
    y = net.conv(y, (half, half), 3, stride, groups=half, act=None)
    return net.conv(y, (half, half))


def _mixed(net: Network, left: ir.Value, right: ir.Value, half: int) -> ir.Value:
    order = np.arange(2 * half).reshape(2, half).T.reshape(-1)
    return _channels(net, net.op("Concat", left, right, axis=1), order)


def _channels(net: Network, x: ir.Value, order: np.ndarray) -> ir.Value:
    return net.op("Gather", x, net.constant(order, "order"), axis=1)
