"""A multilayer perceptron: two hidden layers over all elements of a sample."""

from math import prod

import onnx_ir as ir

from workers.compression.architectures.interface import Interface, refused
from workers.compression.architectures.network import Network, scaled

_HIDDEN = 256


def mlp(interface: Interface, width: float, seed: int) -> ir.Model:
    """Build the network.

    Raises:
        StepFailed: an input is not float32, or its size is not fixed.
    """
    for value in interface.inputs:
        sizes = list(value.shape or [])
        fixed = len(sizes) >= 2 and all(isinstance(size, int) for size in sizes[1:])
        if value.dtype != ir.DataType.FLOAT or not fixed:
            raise refused(interface, "mlp", "float32 inputs of fixed size")
    net = Network(interface.inputs, "mlp", seed)
    flat = [net.op("Flatten", value, axis=1) for value in net.inputs]
    x = flat[0] if len(flat) == 1 else net.op("Concat", *flat, axis=1)
    features = sum(prod(interface.shape(value)[1:]) for value in interface.inputs)
    hidden = scaled(_HIDDEN, width)
    x = net.linear(x, (features, hidden), act="Relu")
    x = net.linear(x, (hidden, hidden), act="Relu")
    return net.finish(x, hidden, interface)
