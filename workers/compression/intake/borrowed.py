"""Writes operators that onnxruntime alone has in the standard domain as those of the standard.

Its optimizers write them, and files that it has optimized are common. It fuses them again when the
file is opened.
"""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from workers.compression.graph.subgraphs import all_graphs, put_nodes, subgraphs_of

_STANDARD_SINCE = {"LayerNormalization": 17, "SimplifiedLayerNormalization": None}
"""The operators, each with the first opset whose standard has it too."""

_AXES_ARE_READ = 18
"""The first opset whose ReduceMean reads its axes."""


def spell_out_borrowed(proto: onnx.ModelProto, version: int) -> None:
    """Replace operators that the standard does not have in an opset, in place, subgraphs included.

    1. LayerNormalization before opset 17, and SimplifiedLayerNormalization, which has no mean.
    2. They compute in float32, and give the type of their scale, as onnxruntime does.

    Left alone, for the checker to refuse: one over other axes than the last, with a scale that is
    computed, or with more outputs than the first.

    Args:
        proto: the model.
        version: the opset of its standard operators.
    """
    if any(_is_borrowed(node, version) for graph in all_graphs(proto.graph) for node in graph.node):
        taken = {name for graph in all_graphs(proto.graph) for name in _names(graph)}
        _spell_out(proto.graph, version, {}, taken)


def _spell_out(
    graph: onnx.GraphProto, version: int, around: Mapping[str, int], taken: set[str]
) -> None:
    types = {**around, **{tensor.name: tensor.data_type for tensor in graph.initializer}}
    nodes = list[onnx.NodeProto]()
    for node in graph.node:
        for inner in subgraphs_of(node):
            _spell_out(inner, version, types, taken)
        scale = types.get(node.input[1]) if len(node.input) > 1 else None
        if scale is not None and _is_borrowed(node, version) and _is_plain(node):
            nodes += _Writing(node, version, scale, taken).nodes
        else:
            nodes.append(node)
    if len(nodes) != len(graph.node):
        put_nodes(graph, nodes)


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the names of a graph's values."""
    yield from (value.name for value in (*graph.input, *graph.initializer))
    yield from (name for node in graph.node for name in node.output)


def _is_borrowed(node: onnx.NodeProto, version: int) -> bool:
    if node.domain or node.op_type not in _STANDARD_SINCE:
        return False
    since = _STANDARD_SINCE[node.op_type]
    return since is None or version < since


def _is_plain(node: onnx.NodeProto) -> bool:
    axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
    return axis == -1 and not any(node.output[1:])


class _Writing:
    """The nodes that compute what one normalisation does.

    Args:
        node: the normalisation.
        version: the opset of the standard operators.
        dtype: the type of its scale, which is that of its output.
        taken: the names of all values, to which those of new values are added.
    """

    def __init__(self, node: onnx.NodeProto, version: int, dtype: int, taken: set[str]) -> None:
        self.nodes = list[onnx.NodeProto]()
        self._node, self._version, self._taken = node, version, taken
        self._wide = dtype in {TensorProto.FLOAT, TensorProto.DOUBLE}
        self._double = dtype == TensorProto.DOUBLE
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        x = self._widened(node.input[0])
        if node.op_type == "LayerNormalization":
            x = self._put("Sub", x, self._mean(x))
        variance = self._mean(self._put("Pow", x, self._constant(2.0)))
        deviation = self._put("Sqrt", self._put("Add", variance, self._constant(epsilon)))
        normal = self._put("Div", x, deviation)
        result = self._put("Mul", normal, self._widened(node.input[1]))
        if len(node.input) > 2 and node.input[2]:
            result = self._put("Add", result, self._widened(node.input[2]))
        if not self._wide:
            result = self._put("Cast", result, to=dtype)
        self.nodes[-1].output[0] = node.output[0]

    def _put(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Add a node and return the name of its output."""
        stem = f"{self._node.output[0]}_{operator}"
        names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
        output = next(name for name in names if name not in self._taken)
        self._taken.add(output)
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def _constant(self, number: float) -> str:
        array = np.asarray(number, np.float64 if self._double else np.float32)
        return self._put("Constant", value=numpy_helper.from_array(array))

    def _widened(self, value: str) -> str:
        return value if self._wide else self._put("Cast", value, to=TensorProto.FLOAT)

    def _mean(self, value: str) -> str:
        if self._version < _AXES_ARE_READ:
            return self._put("ReduceMean", value, axes=[-1], keepdims=1)
        axes = numpy_helper.from_array(np.array([-1], np.int64))
        return self._put("ReduceMean", value, self._put("Constant", value=axes), keepdims=1)
