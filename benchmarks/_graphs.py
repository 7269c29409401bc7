"""Graphs of any length, in the ways that exporters write them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_SEED = 0
_OPSET = 13
"""Old enough to be lifted, as most uploads are."""


class _Graph:
    """Nodes and weights in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._draw = np.random.default_rng(_SEED)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        output = f"v{len(self.nodes)}"
        name = f"/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name, **attributes))
        return output

    def constant(self, array: Any) -> str:
        """Add a Constant, as torch writes the numbers of a formula."""
        return self.add("Constant", value=numpy_helper.from_array(np.asarray(array)))

    def weight(self, *shape: int) -> str:
        """Add a weight that keeps the variance of what passes through it."""
        name = f"w{len(self._weights)}"
        inputs = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        array: NDArray[np.float32] = self._draw.standard_normal(shape, np.float32)
        array /= np.float32(inputs**0.5)
        self._weights.append(numpy_helper.from_array(array, name))
        return name

    def vector(self, size: int, fill: float) -> str:
        """Add a vector of one number: a bias, a scale."""
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.full(size, fill, np.float32), name))
        return name

    def write(self, output: str, shape: Sequence[str | int], path: Path) -> None:
        """Write it with the input ``x`` and one output, both of the same shape."""
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
            for name in ("x", output)
        ]
        graph = helper.make_graph(self.nodes, "graph", ends[:1], ends[1:], self._weights)
        imports = [helper.make_opsetid("", _OPSET)]
        onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)


def chain(count: int, path: Path) -> None:
    """Write operators without weights, one behind the other."""
    graph, x = _Graph(), "x"
    for index in range(count):
        x = graph.add(("Relu", "Sigmoid", "Neg", "Tanh", "Abs")[index % 5], x)
    graph.write(x, ("batch", 8), path)


def mlp(count: int, path: Path, width: int = 16) -> None:
    """Write products with biases, and Relus between them."""
    graph, x = _Graph(), "x"
    while len(graph.nodes) < count:
        x = graph.add("MatMul", x, graph.weight(width, width))
        x = graph.add("Relu", graph.add("Add", x, graph.vector(width, 0.01)))
    graph.write(x, ("batch", width), path)


def cnn(count: int, path: Path, channels: int = 4) -> None:
    """Write residual blocks of convolutions that a BatchNormalization follows."""
    graph, x = _Graph(), "x"

    def normalised(x: str) -> str:
        x = graph.add("Conv", x, graph.weight(channels, channels, 3, 3), pads=[1, 1, 1, 1])
        statistics = [graph.vector(channels, fill) for fill in (1, 0, 0, 1)]
        return graph.add("BatchNormalization", x, *statistics)

    while len(graph.nodes) < count:
        y = normalised(graph.add("Relu", normalised(x)))
        x = graph.add("Relu", graph.add("Add", y, x))
    graph.write(x, ("batch", channels, 8, 8), path)


def transformer(count: int, path: Path, width: int = 16, heads: int = 2) -> None:
    """Write encoder blocks with normalisation, Gelu and reshaping spelled out, as by old torch."""
    graph, x = _Graph(), "x"
    add, constant = graph.add, graph.constant

    def linear(x: str, inputs: int, outputs: int) -> str:
        product = add("MatMul", x, graph.weight(inputs, outputs))
        return add("Add", graph.vector(outputs, 0.01), product)

    def norm(x: str) -> str:
        centred = add("Sub", x, add("ReduceMean", x, axes=[-1]))
        squares = add("Pow", centred, constant(np.float32(2)))
        variance = add("ReduceMean", squares, axes=[-1])
        deviation = add("Sqrt", add("Add", variance, constant(np.float32(1e-5))))
        scaled = add("Mul", add("Div", centred, deviation), graph.vector(width, 1))
        return add("Add", scaled, graph.vector(width, 0))

    def gelu(x: str) -> str:
        error = add("Erf", add("Div", x, constant(np.float32(2**0.5))))
        rest = add("Add", error, constant(np.float32(1)))
        return add("Mul", add("Mul", x, rest), constant(np.float32(0.5)))

    def sizes(x: str, *rest: int) -> str:
        shape = add("Shape", x)
        known = [add("Unsqueeze", size(shape, axis), constant([0])) for axis in (0, 1)]
        return add("Concat", *known, *(constant([each]) for each in rest), axis=0)

    def size(shape: str, axis: int) -> str:
        return add("Gather", shape, constant(np.int64(axis)))

    def split(x: str) -> str:
        parts = add("Reshape", x, sizes(x, heads, width // heads))
        return add("Transpose", parts, perm=[0, 2, 1, 3])

    def attention(x: str) -> str:
        query, key, value = (split(linear(x, width, width)) for _ in range(3))
        products = add("MatMul", query, add("Transpose", key, perm=[0, 1, 3, 2]))
        scaled = add("Div", products, constant(np.float32((width // heads) ** 0.5)))
        mixed = add("MatMul", add("Softmax", scaled, axis=-1), value)
        joined = add("Transpose", mixed, perm=[0, 2, 1, 3])
        return linear(add("Reshape", joined, sizes(joined, width)), width, width)

    while len(graph.nodes) < count:
        x = norm(add("Add", attention(x), x))
        x = norm(add("Add", linear(gelu(linear(x, width, 4 * width)), 4 * width, width), x))
    graph.write(x, ("batch", "tokens", width), path)


KINDS: dict[str, Callable[[int, Path], None]] = {
    "chain": chain,
    "mlp": mlp,
    "cnn": cnn,
    "transformer": transformer,
}
