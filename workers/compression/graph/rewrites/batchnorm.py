"""Fold a BatchNormalization into the convolution before it."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph.operators import channel_axis, operand

_CONVOLUTIONS = ("Conv", "ConvTranspose")


def fold_batchnorm(model: ir.Model) -> int:
    """Fold each BatchNormalization into a convolution that nothing else reads.

    Left alone: normalisations in training mode, with computed statistics, or after a convolution
    whose output or weight another node reads; transposed convolutions in groups.
    """
    changes = 0
    for node in list(model.graph):
        if node.op_type != "BatchNormalization" or _learns(node):
            continue
        conv = convolution_before(node)
        if conv is None or not all(
            value is not None and is_constant(value) for value in node.inputs[1:5]
        ):
            continue
        fold_into(conv, node, *affine(node))
        changes += 1
    return changes


def affine(norm: ir.Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the factor and the offset of a BatchNormalization, ``[channels]``."""
    scale, shift, mean, variance = (array_of(value) for value in norm.inputs[1:5])
    factor = scale / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
    return factor, shift - mean * factor


def _learns(norm: ir.Node) -> bool:
    return bool(norm.attributes.get_int("training_mode", 0)) or len(norm.outputs) > 1


def convolution_before(node: ir.Node, slot: int = 0) -> ir.Node | None:
    """Return the convolution that only ``node`` reads and whose weights may be changed, if any."""
    value = node.inputs[slot]
    conv = value.producer() if value is not None else None
    if (
        value is None
        or conv is None
        or conv.op_type not in _CONVOLUTIONS
        or conv.graph is not node.graph
    ):
        return None
    grouped = conv.op_type == "ConvTranspose" and conv.attributes.get_int("group", 1) > 1
    weight, bias = conv.inputs[1], operand(conv, 2)
    if grouped or not all(v is None or is_constant(v) for v in (weight, bias)):
        return None
    only_reader = len(value.uses()) == 1 and not value.is_graph_output()
    return conv if only_reader and weight is not None and len(weight.uses()) == 1 else None


def fold_into(
    conv: ir.Node, after: ir.Node, factor: NDArray[np.float64], shift: NDArray[np.float64]
) -> None:
    """Fold ``factor * x + shift``, which the node ``after`` computes, into a convolution.

    The new convolution gives the output of ``after``, under its name; both old nodes are removed.
    """
    graph, weight = conv.graph, conv.inputs[1]
    assert isinstance(graph, ir.Graph)
    assert weight is not None
    weights, axis = array_of(weight), channel_axis(conv) or 0
    shape = [-1 if dim == axis else 1 for dim in range(weights.ndim)]
    bias = np.zeros_like(shift) if operand(conv, 2) is None else array_of(operand(conv, 2))
    dtype = weight.const_value.dtype.numpy() if weight.const_value is not None else np.float32
    folded = (weights * factor.reshape(shape)).astype(dtype)
    shifted = (shift + bias * factor).astype(dtype)
    output = after.outputs[0]
    name = str(output.name)
    new = ir.node(
        conv.op_type,
        [
            conv.inputs[0],
            _initializer(graph, f"{weight.name}_folded", folded),
            _initializer(graph, f"{name}_bias_folded", shifted),
        ],
        conv.attributes,
        name=conv.name,
    )
    new.outputs[0].shape, new.outputs[0].type = output.shape, output.type
    graph.insert_before(conv, new)
    ir.convenience.replace_all_uses_with(output, new.outputs[0], replace_graph_outputs=True)
    graph.remove([after, conv], safe=True)
    new.outputs[0].name = name


def _initializer(graph: ir.Graph, name: str, array: NDArray[np.floating]) -> ir.Value:
    while name in graph.initializers:
        name += "_"
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(
        name=name, const_value=tensor, shape=tensor.shape, type=ir.TensorType(tensor.dtype)
    )
    graph.register_initializer(value)
    return value


def is_constant(value: ir.Value) -> bool:
    """Return whether a value is a constant, which no user may feed."""
    return value.is_initializer() and not value.is_graph_input()


def array_of(value: ir.Value | None) -> NDArray[np.float64]:
    """Return a constant's values in double precision."""
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy().astype(np.float64)
