"""A transformer encoder: over vectors, over tokens, or over patches of images.

Normalisation comes first in each block (Xiong et al. 2020). Positions are encoded by sines (Vaswani
et al. 2017), so that sequences of any length can be read.
"""

import numpy as np
import onnx_ir as ir

from app.domain.layouts import picture_patch, sequence_patch
from workers.compression.architectures.interface import Interface, image, is_ids, refused
from workers.compression.architectures.network import Network, scaled

_WIDTH, _BLOCKS, _HEADS = 128, 4, 4
_MASKED = -1e4


def transformer(interface: Interface, width: float, seed: int) -> ir.Model:
    """Build the network.

    Raises:
        StepFailed: the inputs are neither sequences nor images.
    """
    size = scaled(_WIDTH, width, 2 * _HEADS)
    net = Network(interface.inputs, "transformer", seed)
    x, mask = _embedded(net, interface, size)
    x = net.op("Add", x, _positions(net, x, size))
    for _ in range(_BLOCKS):
        x = net.op("Add", x, _attention(net, net.layer_norm(x, size), size, mask))
        hidden = net.linear(net.layer_norm(x, size), (size, 4 * size), act="Gelu")
        x = net.op("Add", x, net.linear(hidden, (4 * size, size), gain=1 / _BLOCKS))
    return net.finish(_mean(net, net.layer_norm(x, size), mask), size, interface)


def _embedded(net: Network, interface: Interface, size: int) -> tuple[ir.Value, ir.Value | None]:
    """Return the embedded input ``[N, L, size]``, and the padding mask where one is an input.

    The mask is ``[N, L]``: 1 for a token, 0 for padding.
    """
    if all(is_ids(value) for value in interface.inputs):
        return _tokens(net, interface, size)
    first = interface.inputs[0]
    shape = interface.shape(first)
    single = len(interface.inputs) == 1 and first.dtype == ir.DataType.FLOAT
    if single and len(shape) == 4:
        return _patches(net, interface, size), None
    if single and len(shape) == 3 and first.shape and isinstance(first.shape[2], int):
        return _embedded_sequence(net, (shape[1], shape[2]), size), None
    expected = "one input of float32 [batch, length, features] or images, or token ids"
    raise refused(interface, "transformer", expected)


def _patches(net: Network, interface: Interface, size: int) -> ir.Value:
    _, channels, channels_last, side = image(interface, "transformer")
    patch = picture_patch(side)
    x = net.op("Transpose", net.inputs[0], perm=[0, 3, 1, 2]) if channels_last else net.inputs[0]
    shape = (size, channels, patch, patch)
    weight = net.weight(shape, channels * patch * patch, 1.0, "patch_weight")
    x = net.op("Conv", x, weight, strides=[patch, patch], kernel_shape=[patch, patch])
    x = net.op("Reshape", x, net.constant([0, size, -1], "shape"))
    return net.op("Transpose", x, perm=[0, 2, 1])


def _embedded_sequence(net: Network, shape: tuple[int, int], size: int) -> ir.Value:
    """Embed a sequence ``[N, length, features]``; a long one is embedded in patches."""
    length, features = shape
    patch = sequence_patch(length)
    if patch == 1:
        return net.linear(net.inputs[0], (features, size), gain=1.0)
    x = net.op("Transpose", net.inputs[0], perm=[0, 2, 1])
    weight = net.weight((size, features, patch), features * patch, 1.0, "patch_weight")
    x = net.op("Conv", x, weight, strides=[patch], kernel_shape=[patch])
    return net.op("Transpose", x, perm=[0, 2, 1])


def _tokens(net: Network, interface: Interface, size: int) -> tuple[ir.Value, ir.Value | None]:
    """Return the embedded tokens and the mask.

    An input that the original graph uses in no embedding look-up is taken to be the mask.
    """
    embedded, mask = None, None
    for value, ids in zip(interface.inputs, net.inputs, strict=True):
        vocabulary = _vocabulary(value)
        if len(interface.shape(value)) != 2 or (vocabulary is None and mask is not None):
            break
        if vocabulary is None:
            mask = net.op("Cast", ids, to=int(ir.DataType.FLOAT))
            continue
        table = net.weight((vocabulary, size), 1, 0.02, "embedding")
        rows = net.op("Gather", table, ids, axis=0)
        embedded = rows if embedded is None else net.op("Add", embedded, rows)
    else:
        if embedded is not None:
            return embedded, mask
    raise refused(interface, "transformer", "token ids, [batch, length], that the model looks up")


def _vocabulary(value: ir.Value) -> int | None:
    """Return the number of rows of the embedding table that an input indexes."""
    for node, slot in value.uses():
        table = node.inputs[0]
        if node.op_type == "Gather" and slot == 1 and table is not None and table.const_value:
            return int(table.const_value.shape.numpy()[0])
        if node.op_type == "Cast" and (rows := _vocabulary(node.outputs[0])) is not None:
            return rows
    return None


def _positions(net: Network, x: ir.Value, size: int) -> ir.Value:
    """Return the sines and cosines that encode each position, ``[L, size]``."""
    length = net.op("Squeeze", net.op("Shape", x, start=1, end=2))
    zero, one = net.constant(np.zeros((), int)), net.constant(np.ones((), int))
    positions = net.op("Cast", net.op("Range", zero, length, one), to=int(ir.DataType.FLOAT))
    column = net.op("Unsqueeze", positions, net.constant([1], "axes"))
    rates = 10_000.0 ** -(np.arange(size // 2) / (size // 2))
    angles = net.op("Mul", column, net.constant(rates, "rates"))
    return net.op("Concat", net.op("Sin", angles), net.op("Cos", angles), axis=-1)


def _attention(net: Network, x: ir.Value, size: int, mask: ir.Value | None) -> ir.Value:
    head_size = size // _HEADS
    split = net.constant([0, 0, _HEADS, head_size], "shape")

    def heads(perm: list[int]) -> ir.Value:
        y = net.linear(x, (size, size), gain=1.0)
        return net.op("Transpose", net.op("Reshape", y, split), perm=perm)

    queries, keys, values = heads([0, 2, 1, 3]), heads([0, 2, 3, 1]), heads([0, 2, 1, 3])
    scores = net.op("MatMul", queries, keys)
    scores = net.op("Mul", scores, net.constant(np.full((), head_size**-0.5)))
    if mask is not None:
        bias = net.op("Sub", net.constant(np.ones(())), mask)
        bias = net.op("Mul", bias, net.constant(np.full((), _MASKED)))
        scores = net.op("Add", scores, net.op("Unsqueeze", bias, net.constant([1, 2], "axes")))
    y = net.op("MatMul", net.op("Softmax", scores, axis=-1), values)
    y = net.op("Transpose", y, perm=[0, 2, 1, 3])
    y = net.op("Reshape", y, net.constant([0, 0, size], "shape"))
    return net.linear(y, (size, size), gain=1 / _BLOCKS)


def _mean(net: Network, x: ir.Value, mask: ir.Value | None) -> ir.Value:
    """Return the mean over the positions that are not padding, ``[N, size]``."""
    along = net.constant([1], "axes")
    if mask is None:
        return net.op("ReduceMean", x, along, keepdims=0)
    weight = net.op("Unsqueeze", mask, net.constant([2], "axes"))
    total = net.op("ReduceSum", net.op("Mul", x, weight), along, keepdims=0)
    count = net.op("ReduceSum", weight, along, keepdims=0)
    return net.op("Div", total, net.op("Max", count, net.constant(np.ones(()))))
