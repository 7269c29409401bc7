"""Which nodes are quantized, in which form, and why the others are not."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.steps import Quantize, Skipped
from app.domain.steps.quantize import MAIN_OPERATORS
from workers.compression.graph.editor import constant
from workers.compression.graph.operators import bias_of, channel_axis, operand, operator_of

_SUPPORTED = ("Conv", "ConvTranspose", "Gather", "Gemm", "MatMul")
_INTEGER = ("Conv", "Gemm", "MatMul")
"""What onnxruntime computes in int8; of the others only the weights are stored so."""


@dataclass(frozen=True)
class Layer:
    """A node whose weight is to be quantized."""

    node: ir.Node
    weight: ir.Value
    """A float32 initializer."""
    axis: int | None
    """Its output channels, where each gets its own scale."""
    bias: ir.Value | None
    """A float32 initializer, one element for each output channel."""
    integer: bool
    """Whether there is an int8 kernel for it, and its activations can be calibrated: what lies in a
    branch or loop is not seen from outside."""

    @property
    def weights(self) -> NDArray[np.float32]:
        """The weight's values."""
        return constant(self.weight)


def select(
    model: ir.Model, parameters: Quantize, left: Mapping[str, str] = MappingProxyType({})
) -> tuple[list[Layer], list[Skipped]]:
    """Split the nodes that hold weights, or that the request names, into layers and refusals.

    Args:
        model: the graph.
        parameters: which nodes are quantized.
        left: names of nodes that stay in float besides, each with the reason.
    """
    layers, skipped = [], []
    for node in model.graph.all_nodes():
        if not _concerned(node, parameters):
            continue
        name = str(node.name)
        verdict = parameters.skip(name, node.op_type) or _judge(node, model, parameters)
        if isinstance(verdict, Layer) and name in left:
            verdict = Skipped(node=name, reason=left[name])
        if isinstance(verdict, Layer):
            layers.append(verdict)
        else:
            skipped.append(verdict)
    return _without_shared(layers, skipped)


def _concerned(node: ir.Node, parameters: Quantize) -> bool:
    operator = operator_of(node)
    return node.op_type in (parameters.operators or MAIN_OPERATORS) or (
        operator is not None
        and any(_float_initializer(operand(node, slot)) for slot in operator.weights)
    )


def _judge(node: ir.Node, model: ir.Model, parameters: Quantize) -> Layer | Skipped:
    """Turn a node into a layer, or say what keeps it from being one."""
    name = str(node.name)
    operator = operator_of(node)
    if operator is None or node.op_type not in _SUPPORTED or node.domain not in {"", "ai.onnx"}:
        return Skipped(node=name, reason=f"there is no int8 form of {node.op_type} here")
    slot = operator.weights[0]
    weight = operand(node, slot)
    if weight is None or not weight.is_initializer() or weight.is_graph_input():
        return Skipped(node=name, reason=_no_weight(weight, operand(node, 1 - slot)))
    reason = _unfit_weight(weight) or (_unfit_gemm(node) if node.op_type == "Gemm" else None)
    return Skipped(node=name, reason=reason) if reason else _layer(node, weight, model, parameters)


def _no_weight(weight: ir.Value | None, other: ir.Value | None) -> str:
    """Say why a node whose weight is computed, or elsewhere, is left alone."""
    if other is not None and other.is_initializer():
        return "its weight is the left operand, for which there is no int8 kernel"
    if _turned(weight):
        return "its weight is computed from one that others read as it is"
    return "it multiplies two computed tensors: there is no weight to store in fewer bits"


def _turned(value: ir.Value | None) -> bool:
    """Return whether a value is computed from one constant alone."""
    maker = value.producer() if value is not None else None
    return maker is not None and all(v is None or v.is_initializer() for v in maker.inputs)


def _unfit_weight(weight: ir.Value) -> str | None:
    """Say why a weight cannot be stored in integers."""
    if weight.dtype != ir.DataType.FLOAT:
        return f"its weight is {weight.dtype}, not float32"
    if weight.is_graph_output():
        return "its weight is an output of the graph"
    return None if np.isfinite(constant(weight)).all() else "its weights are not all finite"


def _unfit_gemm(node: ir.Node) -> str | None:
    """Say why a Gemm has no int8 form."""
    if node.attributes.get_int("transA", 0):
        return "its input is transposed (transA)"
    bias, weight = bias_of(node), node.inputs[1]
    outputs = constant(weight).shape[channel_axis(node) or 0] if weight is not None else 0
    if bias is not None and not _is_vector(bias, outputs):
        return "its bias is computed, or no vector of its outputs"
    return None


def _layer(node: ir.Node, weight: ir.Value, model: ir.Model, parameters: Quantize) -> Layer:
    rank = constant(weight).ndim
    axis = channel_axis(node) if parameters.per_channel and rank else None
    if node.op_type == "MatMul" and rank != 2:
        axis = None
    bias = bias_of(node)
    computed = bias is not None and not bias.is_initializer()
    return Layer(
        node=node,
        weight=weight,
        axis=None if axis is None else axis % rank,
        bias=None if computed else bias,
        integer=node.op_type in _INTEGER and not computed and node.graph is model.graph,
    )


def _without_shared(
    layers: list[Layer], skipped: list[Skipped]
) -> tuple[list[Layer], list[Skipped]]:
    """Leave out layers whose weight a node that stays in float also reads: nothing is saved."""
    chosen = {layer.node for layer in layers}
    kept = []
    for layer in layers:
        other = next((node for node, _ in layer.weight.uses() if node not in chosen), None)
        if other is None:
            kept.append(layer)
        else:
            reason = f"it shares its weight with '{other.name}', which stays in float"
            skipped.append(Skipped(node=str(layer.node.name), reason=reason))
    return kept, skipped


def _is_vector(bias: ir.Value, size: int) -> bool:
    if not bias.is_initializer() or bias.dtype != ir.DataType.FLOAT:
        return False
    shape = constant(bias).shape
    return bool(shape) and prod(shape) == shape[-1] == size


def _float_initializer(value: ir.Value | None) -> bool:
    if value is None or not value.is_initializer() or value.dtype is None:
        return False
    return value.dtype.is_floating_point()
