"""How networks for images begin, and where they halve what they look at."""

from collections.abc import Iterator

import onnx_ir as ir

from workers.compression.architectures.interface import Interface, image, reductions
from workers.compression.architectures.network import Network


def begin(
    interface: Interface, name: str, seed: int, halvings: int
) -> tuple[Network, ir.Value, int, Iterator[int]]:
    """Start a network that reads images.

    Args:
        interface: what it reads.
        name: of the architecture.
        seed: of its weights.
        halvings: how often the architecture halves an image; on small ones the first are left out.

    Returns:
        The network, its input as ``[N, C, H, W]``, its channels, and the stride of each place that
        halves, in order.
    """
    value, channels, last, side = image(interface, name)
    net = Network(interface.inputs, name, seed)
    x = net.inputs[interface.inputs.index(value)]
    if last:
        x = net.op("Transpose", x, perm=[0, 3, 1, 2])
    real = reductions(side, halvings)
    return net, x, channels, iter([1] * (halvings - real) + [2] * real)
