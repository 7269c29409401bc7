"""MobileNetV3-Small (Howard et al. 2019): hard-swish, and squeeze-and-excitation."""

import onnx_ir as ir

from workers.compression.architectures.images import image_input
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
"""For each block: kernel size, expanded channels, channels, whether it has squeeze-and-excitation,
activation, whether it halves the image."""


def mobilenet_v3(interface: Interface, width: float, seed: int) -> ir.Model:
    """Build the network."""
    source = image_input(interface, "mobilenet_v3", seed)
    net, stem = source.net, scaled(16, width)
    x = net.conv(source.image, (source.channels, stem), 3, next(source.strides), act="HardSwish")
    channels = stem
    for kernel, base_expanded, base_outputs, squeezes, act, halves in _BLOCKS:
        stride = next(source.strides) if halves else 1
        outputs, y = scaled(base_outputs, width), x
        expanded = scaled(base_expanded, width)
        if expanded != channels:
            y = net.conv(y, (channels, expanded), act=act)
        y = net.conv(y, (expanded, expanded), kernel, stride, groups=expanded, act=act)
        if squeezes:
            y = _squeeze_excite(net, y, expanded)
        y = net.conv(y, (expanded, outputs), act=None)
        x = net.op("Add", x, y) if stride == 1 and channels == outputs else y
        channels = outputs
    features, hidden = scaled(576, width), scaled(1024, min(width, 1.0))
    x = net.pooled(net.conv(x, (channels, features), act="HardSwish"))
    x = net.linear(x, (features, hidden), act="HardSwish")
    return net.finish(x, hidden, interface)


def _squeeze_excite(net: Network, x: ir.Value, channels: int) -> ir.Value:
    """Scale each channel by a factor that a small network computes from the channel means."""
    squeezed = scaled(channels // 4, 1.0)
    y = net.linear(net.pooled(x), (channels, squeezed), act="Relu")
    y = net.op("HardSigmoid", net.linear(y, (squeezed, channels), gain=1.0), alpha=1 / 6, beta=0.5)
    return net.op("Mul", x, net.op("Unsqueeze", y, net.constant([2, 3], "axes")))
