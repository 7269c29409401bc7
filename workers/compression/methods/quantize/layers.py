"""Selects the layers that are quantized; the other layers get a reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.steps import Quantize, Skipped
from app.domain.steps.quantize import MAIN_OPERATORS
from workers.compression.graph.editor import constant
from workers.compression.graph.operators import (
    bias_of,
    channel_axis,
    holds_unknown_weights,
    is_quantized,
    operand,
    operator_of,
)

_SUPPORTED = ("Conv", "ConvTranspose", "Gather", "Gemm", "MatMul")
_INTEGER = ("Conv", "Gemm", "MatMul")
"""The operators with an int8 kernel in onnxruntime; the others only store their weights in int8."""


@dataclass(frozen=True)
class QuantizableLayer:
    """A node whose weight can be quantized."""

    node: ir.Node
    weight: ir.Value
    """A float32 initializer."""
    axis: int | None
    """The weight's axis of output channels; None for one scale for all channels."""
    bias: ir.Value | None
    """A float32 initializer, one element for each output channel."""
    integer: bool
    """Whether the node has an int8 kernel, and its activations can be observed: values in branches
    and loops cannot."""

    @property
    def weights(self) -> NDArray[np.float32]:
        """The weight as an array."""
        return constant(self.weight)


def select(
    model: ir.Model, parameters: Quantize, excluded: Mapping[str, str] = MappingProxyType({})
) -> tuple[list[QuantizableLayer], list[Skipped]]:
    """Split the nodes that hold weights, or that the request names, into layers and refusals.

    Args:
        model: the graph.
        parameters: the operators to quantize, and the nodes to ignore.
        excluded: further nodes that stay in float, by name, each with the reason.
    """
    layers, skipped = [], []
    for node in model.graph.all_nodes():
        if not _concerned(node, parameters):
            continue
        name = str(node.name)
        verdict = parameters.skip(name, node.op_type) or _judge(node, model, parameters)
        if isinstance(verdict, QuantizableLayer) and name in excluded:
            verdict = Skipped(node=name, reason=excluded[name])
        if isinstance(verdict, QuantizableLayer):
            layers.append(verdict)
        else:
            skipped.append(verdict)
    return _without_shared(layers, skipped)


def matrices(
    layers: Sequence[QuantizableLayer], skipped: Sequence[Skipped]
) -> tuple[list[QuantizableLayer], list[Skipped]]:
    """Leave out layers whose weight is a vector, or a stack of matrices: those have no blocks."""
    chosen = [layer for layer in layers if layer.weights.ndim == 2]
    others = [layer for layer in layers if layer not in chosen]
    reason = "its weight is no matrix: there are no blocks of it"
    return chosen, [*skipped, *(Skipped(node=str(o.node.name), reason=reason) for o in others)]


def _concerned(node: ir.Node, parameters: Quantize) -> bool:
    operator = operator_of(node)
    return (
        node.op_type in (parameters.operators or MAIN_OPERATORS)
        or holds_unknown_weights(node)
        or (
            operator is not None
            and any(_float_initializer(operand(node, slot)) for slot in operator.weights)
        )
    )


def _judge(node: ir.Node, model: ir.Model, parameters: Quantize) -> QuantizableLayer | Skipped:
    """Return a node's layer, or the reason why the node cannot be quantized."""
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
    """Return the reason why a node without a constant weight cannot be quantized."""
    if other is not None and other.is_initializer():
        return "its weight is the left operand, for which there is no int8 kernel"
    if is_quantized(weight):
        return "its weight is quantized already"
    if _is_computed_from_constants(weight):
        return "its weight is computed from one that others read as it is"
    return "it multiplies two computed tensors: there is no weight to store in fewer bits"


def _is_computed_from_constants(value: ir.Value | None) -> bool:
    """Return whether a node computes a value from constants alone."""
    maker = value.producer() if value is not None else None
    return maker is not None and all(v is None or v.is_initializer() for v in maker.inputs)


def _unfit_weight(weight: ir.Value) -> str | None:
    """Return why a weight cannot be stored in integers; None if it can."""
    if weight.dtype != ir.DataType.FLOAT:
        return f"its weight is {weight.dtype}, not float32"
    if weight.is_graph_output():
        return "its weight is an output of the graph"
    if not constant(weight).size:
        return "its weight has no elements"
    return None if np.isfinite(constant(weight)).all() else "its weights are not all finite"


def _unfit_gemm(node: ir.Node) -> str | None:
    """Return why a Gemm has no int8 form; None if it has one."""
    if node.attributes.get_int("transA", 0):
        return "its input is transposed (transA)"
    bias, weight = bias_of(node), node.inputs[1]
    outputs = constant(weight).shape[channel_axis(node) or 0] if weight is not None else 0
    if bias is not None and not _is_vector(bias, outputs):
        return "its bias is computed, or is not a vector of its outputs"
    return None


def _layer(
    node: ir.Node, weight: ir.Value, model: ir.Model, parameters: Quantize
) -> QuantizableLayer:
    rank = constant(weight).ndim
    axis = channel_axis(node) if parameters.per_channel and rank else None
    if node.op_type == "MatMul" and rank != 2:
        axis = None
    bias = bias_of(node)
    computed = bias is not None and not bias.is_initializer()
    return QuantizableLayer(
        node=node,
        weight=weight,
        axis=None if axis is None else axis % rank,
        bias=None if computed else bias,
        integer=node.op_type in _INTEGER and not computed and node.graph is model.graph,
    )


def _without_shared(
    layers: list[QuantizableLayer], skipped: list[Skipped]
) -> tuple[list[QuantizableLayer], list[Skipped]]:
    """Refuse layers whose weight is also read by a node that stays in float: nothing is saved."""
    chosen = {layer.node for layer in layers}
    unshared = []
    for layer in layers:
        other = next((node for node, _ in layer.weight.uses() if node not in chosen), None)
        if other is None:
            unshared.append(layer)
        else:
            reason = f"it shares its weight with '{other.name}', which stays in float"
            skipped.append(Skipped(node=str(layer.node.name), reason=reason))
    return unshared, skipped


def _is_vector(bias: ir.Value, size: int) -> bool:
    if not bias.is_initializer() or bias.dtype != ir.DataType.FLOAT:
        return False
    shape = constant(bias).shape
    return bool(shape) and prod(shape) == shape[-1] == size


def _float_initializer(value: ir.Value | None) -> bool:
    if value is None or not value.is_initializer() or value.dtype is None:
        return False
    return value.dtype.is_floating_point()
