"""Compact networks that are built for a task, as graphs, in one explicit table."""

from collections.abc import Callable

import onnx_ir as ir

from workers.compression.architectures.interface import Interface, interface_of
from workers.compression.architectures.mlp import mlp
from workers.compression.architectures.mobilenet_v2 import mobilenet_v2
from workers.compression.architectures.mobilenet_v3 import mobilenet_v3
from workers.compression.architectures.resnet_cifar import resnet_cifar
from workers.compression.architectures.shufflenet_v2 import shufflenet_v2
from workers.compression.architectures.transformer import transformer

ARCHITECTURES: dict[str, Callable[[Interface, float, int], ir.Model]] = {
    "mlp": mlp,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3": mobilenet_v3,
    "resnet_cifar": resnet_cifar,
    "shufflenet_v2": shufflenet_v2,
    "transformer": transformer,
}
"""Builders of untrained graphs. Arguments: the interface, the width multiplier and the seed."""

__all__ = ["ARCHITECTURES", "Interface", "interface_of"]
