"""How networks for images begin, and where they halve what they look at."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from app.domain.layouts import HALVINGS, halvings
from workers.compression.architectures.interface import Interface, image
from workers.compression.architectures.network import Network


@dataclass(frozen=True)
class Start:
    """A network that has its input, and how the rest of it follows from the size of images."""

    net: Network
    image: ir.Value
    """``[N, C, H, W]``."""
    channels: int
    strides: Iterator[int]
    """Of each place at which the architecture halves an image, in order: 1 or 2."""
    side: int
    """Of the images, the shorter one, in pixels."""


def begin(interface: Interface, name: str, seed: int) -> Start:
    """Start a network that reads images; on small ones its first halvings are left out.

    Args:
        interface: what it reads.
        name: of the architecture.
        seed: of its weights.
    """
    value, channels, last, side = image(interface, name)
    net = Network(interface.inputs, name, seed)
    x = net.inputs[interface.inputs.index(value)]
    if last:
        x = net.op("Transpose", x, perm=[0, 3, 1, 2])
    count = halvings(name, side)
    strides = [1] * (HALVINGS[name] - count) + [2] * count
    return Start(net, x, channels, iter(strides), side)
