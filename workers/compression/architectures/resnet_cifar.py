"""ResNet-20 for small images (He et al. 2016, section 4.2)."""

import onnx_ir as ir

from workers.compression.architectures.images import begin
from workers.compression.architectures.interface import Interface
from workers.compression.architectures.network import Network, scaled

_STAGES = (16, 32, 64)
_BLOCKS = 3


def resnet_cifar(interface: Interface, width: float, seed: int) -> ir.Model:
    """Build the network. Images of more than 64 pixels are halved at its start too."""
    net, x, channels, strides = begin(interface, "resnet_cifar", seed, 4)
    first, second = next(strides), next(strides)
    stem = scaled(_STAGES[0], width)
    halved = first == 2 and second == 2
    x, channels = net.conv(x, (channels, stem), 3, 2 if halved else 1), stem
    if halved:
        x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, wish in enumerate(_STAGES):
        written = scaled(wish, width)
        for block in range(_BLOCKS):
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
