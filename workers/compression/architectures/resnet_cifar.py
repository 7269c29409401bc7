"""ResNet-20 for small images (He et al. 2016, section 4.2)."""

import onnx_ir as ir

from app.domain.layouts import blocks
from workers.compression.architectures.images import begin
from workers.compression.architectures.interface import Interface
from workers.compression.architectures.network import Network, scaled

_STAGES = (16, 32, 64)
_BLOCKS = 3


def resnet_cifar(interface: Interface, width: float, seed: int) -> ir.Model:
    """Build the network; larger images are halved at its start too."""
    start = begin(interface, "resnet_cifar", seed)
    net, strides, stem = start.net, start.strides, scaled(_STAGES[0], width)
    first, second = next(strides), next(strides)
    x, channels = net.conv(start.image, (start.channels, stem), 3, first), stem
    if second == 2:
        x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, wish in enumerate(_STAGES):
        written = scaled(wish, width)
        for block in range(blocks(_BLOCKS, start.side)):
            stride = next(strides) if stage and block == 0 else 1
            x, channels = _block(net, x, (channels, written), stride), written
    return net.answer(net.pooled(x), channels, interface)


def _block(net: Network, x: ir.Value, sizes: tuple[int, int], stride: int) -> ir.Value:
    read, written = sizes
    y = net.conv(x, (read, written), 3, stride)
    y = net.conv(y, (written, written), 3, act=None)
    same = stride == 1 and read == written
    short = x if same else net.conv(x, (read, written), 1, stride, act=None)
    return net.op("Relu", net.op("Add", short, y))
