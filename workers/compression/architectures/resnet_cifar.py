"""ResNet-20 for small images (He et al. 2016, section 4.2)."""

import onnx_ir as ir

from app.domain.layouts import blocks
from workers.compression.architectures.images import image_input
from workers.compression.architectures.interface import Interface
from workers.compression.architectures.network import Network, scaled

_STAGES = (16, 32, 64)
_BLOCKS = 3


def resnet_cifar(interface: Interface, width: float, seed: int) -> ir.Model:
    """Build the network. For larger images the first layers halve the image too."""
    source = image_input(interface, "resnet_cifar", seed)
    net, strides, stem = source.net, source.strides, scaled(_STAGES[0], width)
    first, second = next(strides), next(strides)
    x, channels = net.conv(source.image, (source.channels, stem), 3, first), stem
    if second == 2:
        x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, base in enumerate(_STAGES):
        outputs = scaled(base, width)
        for block in range(blocks(_BLOCKS, source.side)):
            stride = next(strides) if stage and block == 0 else 1
            x, channels = _block(net, x, (channels, outputs), stride), outputs
    return net.finish(net.pooled(x), channels, interface)


def _block(net: Network, x: ir.Value, sizes: tuple[int, int], stride: int) -> ir.Value:
    inputs, outputs = sizes
    y = net.conv(x, (inputs, outputs), 3, stride)
    y = net.conv(y, (outputs, outputs), 3, act=None)
    identity = stride == 1 and inputs == outputs
    shortcut = x if identity else net.conv(x, (inputs, outputs), 1, stride, act=None)
    return net.op("Relu", net.op("Add", shortcut, y))
