"""MobileNetV2 (Sandler et al. 2018): inverted residuals with depthwise convolutions."""

import onnx_ir as ir

from app.domain.layouts import blocks
from workers.compression.architectures.images import image_input
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
"""For each stage: expansion, channels, blocks, whether the first block halves the image."""


def mobilenet_v2(interface: Interface, width: float, seed: int) -> ir.Model:
    """Build the network."""
    source = image_input(interface, "mobilenet_v2", seed)
    net, stem = source.net, scaled(32, width)
    x = net.conv(source.image, (source.channels, stem), 3, next(source.strides), act="Clip")
    channels = stem
    for expansion, base, count, halves in _STAGES:
        for block in range(blocks(count, source.side)):
            stride = next(source.strides) if halves and block == 0 else 1
            x = _block(net, x, (channels, scaled(base, width)), expansion, stride)
            channels = scaled(base, width)
    features = scaled(1280, min(width, 1.0))
    x = net.conv(x, (channels, features), act="Clip")
    return net.finish(net.pooled(x), features, interface)


def _block(
    net: Network, x: ir.Value, sizes: tuple[int, int], expansion: int, stride: int
) -> ir.Value:
    inputs, outputs = sizes
    expanded, y = inputs * expansion, x
    if expansion > 1:
        y = net.conv(y, (inputs, expanded), act="Clip")
    y = net.conv(y, (expanded, expanded), 3, stride, groups=expanded, act="Clip")
    y = net.conv(y, (expanded, outputs), act=None)
    return net.op("Add", x, y) if stride == 1 and inputs == outputs else y
