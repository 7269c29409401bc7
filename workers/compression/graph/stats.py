"""Counts the parameters, multiply-accumulates and operators of a graph.

``parameters`` are the elements of weights and biases of the operators in the table, in whatever
type they are stored and however they reach their operator (behind DequantizeLinear, Cast,
Transpose, or put together from constants); each stored tensor counts once, and copies of it in
branches of the graph do not count again. Scales, zero points and shape constants do not count.
``macs`` are the multiply-accumulates of convolutions and matrix products for one sample; a graph
that is fixed to a batch counts for a sample of it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph import shapes as graph_shapes
from workers.compression.graph.operators import Operator, operand, operator_of
from workers.compression.graph.rewrites.constants import lift_constants
from workers.compression.graph.rewrites.fold import fold_constants, foldable
from workers.compression.graph.shapes import Shapes

_CARRIERS = frozenset(
    {"DequantizeLinear", "QuantizeLinear", "Cast", "Transpose", "Identity", "Reshape", "Squeeze",
     "Unsqueeze", "Flatten"}
)  # fmt: skip
"""Operators that may stand between a weight and the operator that uses it."""

_AFTER_PRODUCT = frozenset({"Cast", "Mul", "DequantizeLinear", "QuantizeLinear", "Identity"})
"""Operators that may stand between a (quantized) product and the Add of its bias."""

_SUMS = {"Add": (0, 1), "QLinearAdd": (0, 3)}
"""Operators that may put a bias on a product, with their operands' slots."""

_REACH = 8
"""The largest number of such operators in a row."""

_INDICES = frozenset({ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.STRING})
"""Types that no weight has: a Gather from them picks sizes, not embeddings."""

Identity = ir.Value | tuple[str, tuple[int, ...], str]

_NONZERO_CHUNK = 1 << 24


@dataclass(frozen=True)
class Weight:
    """One stored tensor of weights, and the stored value that means zero."""

    value: ir.Value
    tensor: ir.TensorProtocol
    zero_point: ir.Value | None = None
    axis: int | None = None
    """The axis of a zero point that is a vector."""
    codebook: ir.Value | None = None
    """The values that the tensor's elements are indices into."""


@dataclass(frozen=True)
class LayerStats:
    """The figures of one node. A tensor that several nodes share counts for the first one."""

    name: str
    operator: str
    parameters: int
    nonzero_parameters: int
    macs: int
    kernel: tuple[int, ...] = ()
    """Of a convolution: its spatial sizes."""
    groups: int = 1
    """Of a convolution."""


@dataclass(frozen=True)
class Stats:
    """The figures of a graph."""

    parameters: int
    nonzero_parameters: int
    macs: int
    layers: list[LayerStats]
    unknown: list[str]
    """Nodes whose multiply-accumulates could not be counted, as a size stayed unknown."""


def operators(model: ir.Model) -> dict[str, int]:
    """Count a graph's operators, those in subgraphs and local functions included."""
    counts = Counter(node.op_type for node in ir.traversal.RecursiveGraphIterator(model.graph))
    for function in model.functions.values():
        counts += Counter(node.op_type for node in ir.traversal.RecursiveGraphIterator(function))
    return dict(sorted(counts.items()))


def measure(
    model: ir.Model,
    sizes: Mapping[str, int],
    feeds: Mapping[str, NDArray[Any]] | None = None,
    samples: int = 1,
) -> Stats:
    """Count parameters and multiply-accumulates for one sample.

    Args:
        model: the graph; not changed.
        sizes: sizes of the dynamic dimensions, by the names that ``shapes.dimension_names`` gives.
        feeds: inputs of these sizes. With them, sizes that cannot be inferred are observed in a
            run.
        samples: the number of samples of a run with these sizes.
    """
    model = _computed_ahead(model)
    shapes = graph_shapes.concrete(model, sizes)
    nodes = [node for node in ir.traversal.RecursiveGraphIterator(model.graph) if _listed(node)]
    missing = {str(v.name) for node in nodes for v in _sized(node) if v.name not in shapes}
    if missing and feeds is not None:
        shapes |= graph_shapes.observed(model, sorted(missing), feeds)
    counted_weights: set[Identity] = set()
    layers, unknown = [], []
    for node in nodes:
        operator = operator_of(node)
        macs = _macs(node, operator, shapes) if operator else 0
        if macs is None:
            unknown.append(node.name or node.op_type)
        new_weights = {
            identity: w
            for w in weights_of(node)
            if (identity := _identity(w, model)) not in counted_weights
        }
        counted_weights.update(new_weights)
        parameters = sum(_elements(weight, node) for weight in new_weights.values())
        if parameters or macs:
            nonzero = sum(_nonzero(weight, node) for weight in new_weights.values())
            name, cost = node.name or "", (macs or 0) // samples
            kernel, groups = _kernel(node, shapes), node.attributes.get_int("group", 1)
            layers.append(LayerStats(name, node.op_type, parameters, nonzero, cost, kernel, groups))
    return Stats(
        parameters=sum(layer.parameters for layer in layers),
        nonzero_parameters=sum(layer.nonzero_parameters for layer in layers),
        macs=sum(layer.macs for layer in layers),
        layers=layers,
        unknown=unknown,
    )


def macs_of_one(model: ir.Model, feeds: Mapping[str, NDArray[Any]], samples: int) -> int:
    """Return the multiply-accumulates of a run, divided by its samples."""
    return measure(model, graph_shapes.sizes_of(model, feeds), feeds, samples).macs


def weights_of(node: ir.Node) -> list[Weight]:
    """Return the stored weights and biases of a node, the bias that an Add holds included."""
    operator = operator_of(node)
    if operator is None:
        return _added_bias(node)
    if _codebook(node) is not None:
        return []  # it counts where the weight is used
    weights = []
    for index, slot in enumerate((*operator.weights, *operator.biases)):
        weight = stored(operand(node, slot))
        if weight is None or weight.tensor.dtype in _INDICES:
            continue
        if weight.zero_point is None and index < len(operator.zero_points):
            zero = operand(node, operator.zero_points[index])
            weight = replace(weight, zero_point=zero, axis=operator.channel_axis)
        weights.append(weight)
    return weights


def stored(value: ir.Value | None) -> Weight | None:
    """Trace a value back to the stored constant that it comes from, None if it is computed."""
    zero_point, axis, codebook = None, None, None
    for _ in range(_REACH):
        if value is None:
            return None
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is not None:
            return Weight(value, tensor, zero_point, axis, codebook)
        node = value.producer()
        if node is not None and node.op_type == "Mul":
            value = operand(node, 0)  # stored integers, or values of a codebook, times scales
            node = value.producer() if value is not None else None
            if node is None or (node.op_type != "Cast" and _codebook(node) is None):
                return None
        if node is not None and (book := _codebook(node)) is not None:
            codebook, value = book, operand(node, 1)
            continue
        if node is None or node.op_type not in _CARRIERS:
            return None
        if node.op_type == "DequantizeLinear":
            zero_point, axis = operand(node, 2), node.attributes.get_int("axis", 1)
        value = operand(node, 0)
    return None


def _codebook(node: ir.Node) -> ir.Value | None:
    """Return the codebook of a node that looks up constant indices, None for other nodes."""
    book, indices = operand(node, 0), operand(node, 1)
    if node.op_type != "Gather" or book is None or book.const_value is None:
        return None
    cast = indices.producer() if indices is not None else None
    if len(book.const_value.shape) != 1 or cast is None or cast.op_type != "Cast":
        return None
    stored_indices = operand(cast, 0)
    return book if stored_indices is not None and stored_indices.is_initializer() else None


def _computed_ahead(model: ir.Model) -> ir.Model:
    """Return a graph in which constant subgraphs before operators are folded into weights."""
    if not foldable(model):
        return model
    copy = model.clone()
    lift_constants(copy)
    fold_constants(copy)
    return copy


def _identity(weight: Weight, model: ir.Model) -> Identity:
    """Return what identifies a weight: its tensor, or in branches its content."""
    if weight.value.graph is model.graph:
        return weight.value
    tensor = weight.tensor
    digest = hashlib.sha256(tensor.tobytes()).hexdigest()
    return str(tensor.dtype), tuple(tensor.shape.numpy()), digest


def _listed(node: ir.Node) -> bool:
    return operator_of(node) is not None or node.op_type in _SUMS


def _sized(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the values whose shapes determine the cost of a node."""
    operator = operator_of(node)
    if operator and operator.macs:
        yield from (value for value in (*node.inputs[:4], node.outputs[0]) if value is not None)


def _macs(node: ir.Node, operator: Operator, shapes: Shapes) -> int | None:
    if operator.macs is None:
        return 0
    output = shapes.get(str(node.outputs[0].name))
    if output is None:
        return None
    inputs = [None if value is None else shapes.get(str(value.name)) for value in node.inputs]
    return operator.macs(node, inputs, output)


def _kernel(node: ir.Node, shapes: Shapes) -> tuple[int, ...]:
    """Return the spatial sizes of a convolution's kernel; empty where they are not known."""
    if not node.op_type.startswith(("Conv", "QLinearConv")):
        return ()
    weight = operand(node, 3 if node.op_type == "QLinearConv" else 1)
    declared = node.attributes.get_ints("kernel_shape", [])
    return tuple(declared or shapes.get(str(weight and weight.name), ())[2:])


def _added_bias(node: ir.Node) -> list[Weight]:
    """Return the constant that an Add adds to a product, if it is a vector."""
    operands = [operand(node, slot) for slot in _SUMS.get(node.op_type, ())]
    for bias, product in zip(operands, operands[::-1], strict=True):
        weight = stored(bias)
        if weight is None or weight.tensor.dtype in _INDICES or not _comes_from_product(product):
            continue
        shape = weight.tensor.shape.numpy()
        if shape and prod(shape) == max(shape) > 1:
            return [weight]
    return []


def _comes_from_product(value: ir.Value | None) -> bool:
    for _ in range(_REACH):
        node = value.producer() if value is not None else None
        if node is None:
            return False
        operator = operator_of(node)
        if operator is not None and operator.weights:
            return operator.multiplies
        if node.op_type not in _AFTER_PRODUCT:
            return False
        value = next((v for v in node.inputs if v is not None and stored(v) is None), None)
    return False


def _elements(weight: Weight, node: ir.Node) -> int:
    packed = _packed(weight, node)
    return packed[0] * packed[1] if packed else int(weight.tensor.size)


def _nonzero(weight: Weight, node: ir.Node) -> int:
    """Count the elements that do not mean zero, a bounded chunk at a time."""
    array = weight.tensor.numpy()
    if packed := _packed(weight, node):
        return _nonzero_packed(array, packed, node.attributes.get_int("bits", 4))
    if weight.codebook is not None and weight.codebook.const_value is not None:
        zeros = np.flatnonzero(weight.codebook.const_value.numpy() == 0)
        return int(array.size - np.isin(array.astype(np.uint8), zeros).sum())
    point = ir.convenience.get_const_tensor(weight.zero_point) if weight.zero_point else None
    zero = None if point is None else point.numpy()
    if zero is not None and zero.size > 1:
        axis = weight.axis if weight.axis is not None else -1
        if array.ndim == 0 or array.shape[axis] != zero.size:
            return int(array.size)
        shape = [1] * array.ndim
        shape[axis] = zero.size
        return int(np.count_nonzero(array != zero.reshape(shape)))
    blank = 0 if zero is None else zero.reshape(()).item()
    flat = array.reshape(-1)
    return sum(
        int(np.count_nonzero(flat[start : start + _NONZERO_CHUNK] != flat.dtype.type(blank)))
        for start in range(0, flat.size, _NONZERO_CHUNK)
    )


def _packed(weight: Weight, node: ir.Node) -> tuple[int, int] | None:
    """Return the real shape ``(N, K)`` of MatMulNBits' weight, which is packed in bytes."""
    if node.op_type != "MatMulNBits" or weight.value is not operand(node, 1):
        return None
    return node.attributes.get_int("N", 0), node.attributes.get_int("K", 0)


def _nonzero_packed(array: NDArray[Any], shape: tuple[int, int], bits: int) -> int:
    """Count fields of ``bits`` bits that differ from the middle, the default zero point."""
    per_byte = 8 // bits
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    fields = (array.astype(np.uint8)[..., None] >> shifts) & ((1 << bits) - 1)
    rows = fields.reshape(shape[0], -1)[:, : shape[1]]
    return int(np.count_nonzero(rows != 1 << (bits - 1)))
