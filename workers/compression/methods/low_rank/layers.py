"""Selects the layers that can be factorised; the other layers get a reason."""

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.steps import Skipped, matches
from app.domain.steps.low_rank import FACTORIZED, GROUPED, LEAST_CHANNELS, NARROW, LowRank
from workers.compression.graph.editor import constant
from workers.compression.graph.operators import (
    holds_unknown_weights,
    is_layer,
    is_quantized,
    key_of,
    operand,
)
from workers.compression.graph.products import bias_vector, matrix
from workers.compression.graph.shapes import Shapes


@dataclass(frozen=True)
class LowRankLayer:
    """A layer that a chain of smaller layers may replace."""

    node: ir.Node
    weight: NDArray[np.float32]
    """``[O, I, *kernel]``; ``[O, I]`` for a matrix product, scaled by the node's factors."""
    input_sizes: tuple[int, ...]
    """The spatial sizes of the input; for a matrix product, all sizes but the channels."""
    output_sizes: tuple[int, ...]
    """The spatial sizes of the output; for a matrix product, all sizes but the channels."""
    samples: int = 1
    """The number of samples that these sizes hold: the fixed batch, for a matrix product."""

    @property
    def name(self) -> str:
        """The node's name."""
        return str(self.node.name)

    @property
    def bias(self) -> NDArray[np.float32]:
        """The bias ``[O]``, scaled by a Gemm's beta; a single zero without a bias."""
        value = operand(self.node, 2)
        if value is None:
            return np.zeros(1, np.float32)
        return bias_vector(self.node, constant(value))

    @property
    def macs(self) -> int:
        """The multiply-accumulates for one sample."""
        return int(np.prod(self.output_sizes, dtype=np.int64)) * self.weight.size // self.samples


def select(
    model: ir.Model, parameters: LowRank, shapes: Shapes, samples: int
) -> tuple[list[LowRankLayer], list[Skipped]]:
    """Split the nodes that hold weights into layers and refusals.

    Args:
        model: a graph in normal form whose nodes have names.
        parameters: the layers to ignore.
        shapes: the shapes of all values in one run.
        samples: the number of samples in a run.
    """
    layers, skipped = list[LowRankLayer](), list[Skipped]()
    for node in model.graph.all_nodes():
        domain, operator = key_of(node)
        factorized = domain == "" and operator in FACTORIZED
        if not factorized and not is_layer(node) and not holds_unknown_weights(node):
            continue
        verdict = (
            _judge(node, model, parameters, shapes)
            if factorized
            else f"{operator} is not factorised"
        )
        if isinstance(verdict, LowRankLayer):
            product = node.op_type != "Conv"
            layers.append(replace(verdict, samples=samples) if product else verdict)
        else:
            skipped.append(Skipped(node=str(node.name), reason=verdict))
    return layers, skipped


def _judge(
    node: ir.Node, model: ir.Model, parameters: LowRank, shapes: Shapes
) -> LowRankLayer | str:
    if matches(str(node.name), parameters.ignore):
        return "named in 'ignore'"
    if node.graph is not model.graph:
        return "it lies inside a branch or loop of the graph"
    value = node.inputs[1]
    if reason := _unfit_weight(value, node.inputs[0]) or _unfit(node):
        return reason
    assert value is not None
    array = constant(value)
    weight = array if node.op_type == "Conv" else matrix(node, array)
    if not np.isfinite(weight).all():
        return "its weights are not all finite"
    if min(weight.shape[:2]) < LEAST_CHANNELS:
        return NARROW
    return _layer(node, weight, shapes)


def _layer(node: ir.Node, weight: NDArray[np.float32], shapes: Shapes) -> LowRankLayer | str:
    input_shape, output_shape = (
        shapes.get(str(v.name)) for v in (node.inputs[0], node.outputs[0]) if v
    )
    if input_shape is None or output_shape is None:
        return "the shapes around it are unknown"
    if node.op_type == "Conv":
        return LowRankLayer(node, weight, input_shape[2:], output_shape[2:])
    return LowRankLayer(node, weight, output_shape[:-1], output_shape[:-1])


def _unfit_weight(value: ir.Value | None, other: ir.Value | None) -> str | None:
    if other is not None and other.is_initializer():
        return "its weight is the left operand, which is not factorised"
    if is_quantized(value):
        return "its weight is quantized already"
    if value is None or not value.is_initializer():
        return "it multiplies two computed tensors: there is no weight to factorise"
    if value.dtype != ir.DataType.FLOAT:
        return f"its weight is {value.dtype}, not float32"
    if len(value.uses()) > 1 or value.is_graph_output():
        return "its weight has other readers"
    return None


def _unfit(node: ir.Node) -> str | None:
    if node.attributes.get_int("group", 1) != 1:
        return GROUPED
    if node.attributes.get_int("transA", 0):
        return "its input is transposed (transA)"
    bias = operand(node, 2)
    if bias is not None and not (bias.is_initializer() and _is_vector(constant(bias))):
        return "its bias is computed, or is not a vector of its outputs"
    value = node.inputs[1]
    if node.op_type == "MatMul" and value is not None and len(value.shape or ()) != 2:
        return "its weight is a stack of matrices"
    return None


def _is_vector(array: NDArray[np.float32]) -> bool:
    return array.size == (array.shape[-1] if array.ndim else 1)
