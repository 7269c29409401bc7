"""Draws small graphs: nodes one after the other, weights and data from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT, DOUBLE, HALF = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16
INT64, BOOL = TensorProto.INT64, TensorProto.BOOL

Dims = Sequence[int | str]


@dataclass
class Drawing:
    """A graph in the making. A call adds a node and returns the name of its output."""

    seed: int = 0
    scope: str = ""
    """What the names of this graph begin with; a body's must differ from those around it."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def __call__(
        self, operator: str, *inputs: str, gives: Sequence[str] = (), **attributes: Any
    ) -> str:
        label = f"{self.scope}{operator}_{len(self.nodes)}"
        outputs = list(gives) or [f"{label}_out"]
        self.nodes.append(helper.make_node(operator, inputs, outputs, label, **attributes))
        return outputs[0]

    def keep(self, array: Any, name: str = "") -> str:
        """Add a constant and return its name."""
        name = name or f"{self.scope}constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def whole(self, *numbers: int) -> str:
        """Add a constant list of integers."""
        return self.keep(np.array(numbers, np.int64))

    def weight(
        self, *shape: int, gain: float = 1.4, dtype: type = np.float32, name: str = ""
    ) -> str:
        """Add a weight that keeps the size of what it multiplies.

        Args:
            shape: of a kernel ``[outputs, inputs, …]``, a matrix ``[inputs, outputs]`` or a bias.
            gain: what it multiplies by, about.
            dtype: of the stored numbers.
            name: of the weight.
        """
        terms = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        values = self.random.standard_normal(shape) * gain / np.sqrt(terms)
        return self.keep(values.astype(dtype), name)

    def body(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> onnx.GraphProto:
        """Return what was drawn as the body of a branch or loop."""
        return helper.make_graph(self.nodes, name, list(inputs), list(outputs), self.weights)

    def model(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        opset: int = 17,
        **domains: int,
    ) -> bytes:
        """Return what was drawn as a file.

        Args:
            inputs: of the graph.
            outputs: of the graph.
            opset: of the standard operators.
            domains: versions of other operators; ``_`` stands for the dots of a domain.
        """
        others = [helper.make_opsetid(n.replace("_", "."), v) for n, v in domains.items()]
        imports = [helper.make_opsetid("", opset), *others]
        proto = helper.make_model(
            self.body("drawn", inputs, outputs), opset_imports=imports, ir_version=8
        )
        data: bytes = proto.SerializeToString()
        return data


def end(name: str, kind: int, *dims: int | str) -> onnx.ValueInfoProto:
    """Declare an input or output."""
    return helper.make_tensor_value_info(name, kind, list(dims))


def normal(seed: int, *shape: int) -> NDArray[np.float32]:
    """Return noise."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def pictures(seed: int, count: int, channels: int, size: int) -> NDArray[np.float32]:
    """Return images whose neighbouring pixels are alike, ``[count, channels, size, size]``."""
    coarse = normal(seed, count, channels, size // 4, size // 4)
    noise = normal(seed + 1, count, channels, size, size)
    return coarse.repeat(4, 2).repeat(4, 3) + np.float32(0.2) * noise
