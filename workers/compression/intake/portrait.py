"""Figures for display: the graph as nodes and edges, and histograms of weights."""

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.models import MAX_DISTRIBUTIONS, MAX_NODES, Distribution, Layer, Node
from workers.compression.graph.weights import weights_of

_BINS = 32
_LOOKED_AT = 1 << 16
"""The number of values of a tensor in its histogram, evenly spread."""


def nodes(model: ir.Model) -> list[Node]:
    """Return the nodes of the main graph, each with the nodes that it reads from.

    Subgraphs are not drawn; a graph with more than ``MAX_NODES`` nodes gives none.
    """
    if len(model.graph) > MAX_NODES:
        return []
    numbers = {node: index for index, node in enumerate(model.graph)}
    return [
        Node(
            name=node.name or "",
            operator=node.op_type,
            reads=sorted({numbers[maker] for maker in _makers(node) if maker in numbers}),
        )
        for node in model.graph
    ]


def distributions(model: ir.Model, layers: Iterable[Layer]) -> dict[str, Distribution]:
    """Return histograms of the weights of the largest layers, by the layer's name."""
    largest = sorted(layers, key=lambda layer: -layer.parameters)[:MAX_DISTRIBUTIONS]
    layer_names = {layer.name for layer in largest if layer.parameters}
    histograms = {}
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.name in layer_names and (weights := weights_of(node)):
            values = _finite(weights[0].tensor)
            if values.size:
                histograms[node.name] = _distribution(values)
    return histograms


def _makers(node: ir.Node) -> list[ir.Node]:
    """Return the nodes whose outputs a node reads, in its subgraphs too."""
    inside = [
        value
        for attribute in node.attributes.values()
        if attribute.type is ir.AttributeType.GRAPH
        for inner in ir.traversal.RecursiveGraphIterator(attribute.as_graph())
        for value in inner.inputs
    ]
    read = [value for value in (*node.inputs, *inside) if value is not None]
    return [maker for value in read if (maker := value.producer()) is not None]


def _finite(tensor: ir.TensorProtocol) -> NDArray[np.float64]:
    if not tensor.dtype.is_floating_point():
        return np.empty(0)
    values = tensor.numpy().reshape(-1)
    spread = values[:: max(1, values.size // _LOOKED_AT)].astype(np.float64)
    finite: NDArray[np.float64] = spread[np.isfinite(spread)]
    return finite


def _distribution(values: NDArray[np.float64]) -> Distribution:
    low, high = float(values.min()), float(values.max())
    counts, _ = np.histogram(values, _BINS, (low, high) if high > low else (low - 1, low + 1))
    return Distribution(low=low, high=high, counts=[int(count) for count in counts])
