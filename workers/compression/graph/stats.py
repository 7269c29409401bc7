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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.graph import shapes as graph_shapes
from workers.compression.graph.operators import Operator, is_uncounted, operand, operator_of
from workers.compression.graph.rewrites.constants import lift_constants
from workers.compression.graph.rewrites.fold import fold_constants, foldable
from workers.compression.graph.rewrites.functions import inline_functions
from workers.compression.graph.shapes import Shapes
from workers.compression.graph.subgraphs import nodes_of
from workers.compression.graph.weights import (
    SUMS,
    Weight,
    count_elements,
    count_nonzero,
    weights_of,
)

Identity = ir.Value | tuple[str, tuple[int, ...], str]


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
    uncounted: list[str]
    """Operators in the graph that multiply, and whose multiply-accumulates are not counted."""


def notes_on_macs(unknown: int, uncounted: Iterable[str]) -> list[str]:
    """Return what a figure of multiply-accumulates leaves out, in words.

    Args:
        unknown: the number of nodes that could not be counted.
        uncounted: the operators that are not counted.
    """
    names, notes = sorted(uncounted), list[str]()
    if names:
        notes.append(
            "Multiply–accumulates (MACs) are those of convolutions and matrix products: the work of"
            f" {' and '.join(names)} is not among them."
        )
    if unknown:
        notes.append(f"The MACs of {unknown} nodes could not be counted, and are left out.")
    return notes


def operators(model: ir.Model) -> dict[str, int]:
    """Count a graph's operators, those in subgraphs and local functions included."""
    counts = Counter(node.op_type for node in nodes_of(model))
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
        parameters = sum(count_elements(weight, node) for weight in new_weights.values())
        if parameters or macs:
            nonzero = sum(count_nonzero(weight, node) for weight in new_weights.values())
            name, cost = node.name or "", (macs or 0) // samples
            kernel, groups = _kernel(node, shapes), node.attributes.get_int("group", 1)
            layers.append(LayerStats(name, node.op_type, parameters, nonzero, cost, kernel, groups))
    return Stats(
        parameters=sum(layer.parameters for layer in layers),
        nonzero_parameters=sum(layer.nonzero_parameters for layer in layers),
        macs=sum(layer.macs for layer in layers),
        layers=layers,
        unknown=unknown,
        uncounted=sorted({node.op_type for node in nodes if is_uncounted(node)}),
    )


def macs_of_one(model: ir.Model, feeds: Mapping[str, NDArray[Any]], samples: int) -> int:
    """Return the multiply-accumulates of a run, divided by its samples."""
    return measure(model, graph_shapes.sizes_of(model, feeds), feeds, samples).macs


def _computed_ahead(model: ir.Model) -> ir.Model:
    """Return a graph without local functions, constants before operators folded into weights."""
    if not (model.functions or foldable(model)):
        return model
    copy = model.clone()
    inline_functions(copy)
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
    return operator_of(node) is not None or node.op_type in SUMS


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
