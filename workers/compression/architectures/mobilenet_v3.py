"""MobileNetV3-Small (Howard et al. 2019): hard-swish, and channels that weigh each other."""

import onnx_ir as ir

from workers.compression.architectures.images import begin
from workers.compression.architectures.interface import Interface
from workers.compression.architectures.network import Network, scaled

_BLOCKS = (
    (3, 16, 16, True, "Relu", True),
    (3, 72, 24, False, "Relu", True),
    (3, 88, 24, False, "Relu", False),
    (5, 96, 40, True, "HardSwish", True),
    (5, 240, 40, True, "HardSwish", False),
    (5, 240, 40, True, "HardSwish", False),
    (5, 120, 48, True, "HardSwish", False),
    (5, 144, 48, True, "HardSwish", False),
    (5, 288, 96, True, "HardSwish", True),
    (5, 576, 96, True, "HardSwish", False),
    (5, 576, 96, True, "HardSwish", False),
)
"""Kernel, expanded channels, channels, whether channels are weighed, activation, halves."""


def mobilenet_v3(interface: Interface, width: float, seed: int) -> ir.Model:
    """Build the network."""
    start = begin(interface, "mobilenet_v3", seed)
    net, stem = start.net, scaled(16, width)
    x = net.conv(start.image, (start.channels, stem), 3, next(start.strides), act="HardSwish")
    channels = stem
    for kernel, wide, wish, weighs, act, halves in _BLOCKS:
        stride = next(start.strides) if halves else 1
        written, y = scaled(wish, width), x
        expanded = scaled(wide, width)
        if expanded != channels:
            y = net.conv(y, (channels, expanded), act=act)
        y = net.conv(y, (expanded, expanded), kernel, stride, groups=expanded, act=act)
        if weighs:
            y = _weighed(net, y, expanded)
        y = net.conv(y, (expanded, written), act=None)
        x = net.op("Add", x, y) if stride == 1 and channels == written else y
        channels = written
    last, hidden = scaled(576, width), scaled(1024, min(width, 1.0))
    x = net.pooled(net.conv(x, (channels, last), act="HardSwish"))
    x = net.linear(x, (last, hidden), act="HardSwish")
    return net.answer(x, hidden, interface)


def _weighed(net: Network, x: ir.Value, channels: int) -> ir.Value:
    """Scale channels by what a small network makes of their means (squeeze and excitation)."""
    few = scaled(channels // 4, 1.0)
    y = net.linear(net.pooled(x), (channels, few), act="Relu")
    y = net.op("HardSigmoid", net.linear(y, (few, channels), gain=1.0), alpha=1 / 6, beta=0.5)
    return net.op("Mul", x, net.op("Unsqueeze", y, net.constant([2, 3], "axes")))
