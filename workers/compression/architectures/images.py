"""The first layers of networks for images, and the strides that fit the size of the images."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from app.domain.layouts import HALVINGS, halvings
from workers.compression.architectures.interface import Interface, image
from workers.compression.architectures.network import Network


@dataclass(frozen=True)
class ImageInput:
    """A network that has its input, and the strides of the layers that are added to it."""

    net: Network
    image: ir.Value
    """The input, ``[N, C, H, W]``."""
    channels: int
    strides: Iterator[int]
    """The stride, 1 or 2, of each layer that can halve the image, in order."""
    side: int
    """The shorter side of the images, in pixels."""


def image_input(interface: Interface, name: str, seed: int) -> ImageInput:
    """Start a network that reads images. For small images the first halvings are left out.

    Args:
        interface: the inputs and outputs that the network must have.
        name: the architecture's name.
        seed: the seed of the weights.
    """
    value, channels, channels_last, side = image(interface, name)
    net = Network(interface.inputs, name, seed)
    x = net.inputs[interface.inputs.index(value)]
    if channels_last:
        x = net.op("Transpose", x, perm=[0, 3, 1, 2])
    count = halvings(name, side)
    strides = [1] * (HALVINGS[name] - count) + [2] * count
    return ImageInput(net, x, channels, iter(strides), side)
