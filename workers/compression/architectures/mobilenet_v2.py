"""MobileNetV2 (Sandler et al. 2018): inverted residuals with depthwise convolutions."""

import onnx_ir as ir

from app.domain.layouts import blocks
from workers.compression.architectures.images import begin
from workers.compression.architectures.interface import Interface
from workers.compression.architectures.network import Network, scaled

_STAGES = (
    (1, 16, 1, False),
    (6, 24, 2, True),
    (6, 32, 3, True),
    (6, 64, 4, True),
    (6, 96, 3, False),
    (6, 160, 3, True),
    (6, 320, 1, False),
)
"""Expansion, channels, blocks, whether the first block halves the image."""


def mobilenet_v2(interface: Interface, width: float, seed: int) -> ir.Model:
    """Build the network."""
    start = begin(interface, "mobilenet_v2", seed)
    net, stem = start.net, scaled(32, width)
    x = net.conv(start.image, (start.channels, stem), 3, next(start.strides), act="Clip")
    channels = stem
    for expansion, wish, usual, halves in _STAGES:
        for block in range(blocks(usual, start.side)):
            stride = next(start.strides) if halves and block == 0 else 1
            x = _block(net, x, (channels, scaled(wish, width)), expansion, stride)
            channels = scaled(wish, width)
    last = scaled(1280, min(width, 1.0))
    x = net.conv(x, (channels, last), act="Clip")
    return net.answer(net.pooled(x), last, interface)


def _block(
    net: Network, x: ir.Value, sizes: tuple[int, int], expansion: int, stride: int
) -> ir.Value:
    read, written = sizes
    wide, y = read * expansion, x
    if expansion > 1:
        y = net.conv(y, (read, wide), act="Clip")
    y = net.conv(y, (wide, wide), 3, stride, groups=wide, act="Clip")
    y = net.conv(y, (wide, written), act=None)
    return net.op("Add", x, y) if stride == 1 and read == written else y
