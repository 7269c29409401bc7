"""A builder of networks: each call adds nodes to a graph and returns their output."""

from collections.abc import Sequence
from math import ceil, prod, sqrt
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from workers.compression.architectures.interface import Interface
from workers.compression.graph.editor import Editor

OPSET = 21
_IR_VERSION = 10
_EPSILON = 1e-5


class Network:
    """A new graph with the inputs of another graph, to which layers are added.

    Weights are initialized after He et al. (2015). A BatchNormalization follows each convolution;
    it is folded into the convolution once the network is trained.

    Args:
        inputs: the other graph's inputs; the new graph has the same names, types and shapes.
        name: the new graph's name.
        seed: the seed of the weights.
    """

    def __init__(self, inputs: Sequence[ir.Value], name: str, seed: int) -> None:
        self.inputs = [ir.Value(name=v.name, shape=v.shape, type=v.type) for v in inputs]
        graph = ir.Graph(self.inputs, [], nodes=[], opset_imports={"": OPSET}, name=name)
        self.model = ir.Model(graph, ir_version=_IR_VERSION)
        self._edit = Editor(self.model)
        self._random = np.random.default_rng(seed)

    def op(self, operator: str, *operands: ir.Value, **attributes: Any) -> ir.Value:
        """Add a node."""
        node = self._edit.node(operator, list(operands), f"{operator.lower()}_out", **attributes)
        self.model.graph.append(node)
        return node.outputs[0]

    def constant(self, array: NDArray[Any] | Sequence[int], name: str = "constant") -> ir.Value:
        """Add a constant: floats become float32, whole numbers int64."""
        values, unique = np.asarray(array), self._edit.fresh(name)
        kind = np.float32 if values.dtype.kind == "f" else np.int64
        tensor = ir.Tensor(values.astype(kind), name=unique)
        value = ir.val(unique, const_value=tensor)
        self.model.graph.register_initializer(value)
        return value

    def weight(self, shape: Sequence[int], fan_in: int, gain: float, name: str) -> ir.Value:
        """Add a weight of normally distributed numbers with variance ``gain / fan_in``."""
        drawn = self._random.standard_normal(tuple(shape)) * sqrt(gain / fan_in)
        return self.constant(drawn, name)

    def conv(
        self,
        x: ir.Value,
        sizes: tuple[int, int],
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        act: str | None = "Relu",
    ) -> ir.Value:
        """Add convolution, normalisation and activation.

        Args:
            x: ``[N, C, H, W]``.
            sizes: the numbers of input and output channels.
            kernel: the kernel's height and width.
            stride: the stride in both directions.
            groups: the number of groups; a depthwise convolution has one for each channel.
            act: the activation's operator; ``Clip`` stands for ReLU6.
        """
        inputs, outputs = sizes
        shape = (outputs, inputs // groups, kernel, kernel)
        y = self.op(
            "Conv",
            x,
            self.weight(shape, prod(shape[1:]), 2.0, "conv_weight"),
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            kernel_shape=[kernel, kernel],
            group=groups,
        )
        y = self._normalised(y, outputs)
        return y if act is None else self.act(y, act)

    def act(self, x: ir.Value, kind: str) -> ir.Value:
        """Add an activation; ``Clip`` is ReLU6."""
        if kind != "Clip":
            return self.op(kind, x)
        return self.op("Clip", x, self.constant(np.zeros(())), self.constant(np.full((), 6.0)))

    def linear(
        self, x: ir.Value, sizes: tuple[int, int], *, gain: float = 2.0, act: str | None = None
    ) -> ir.Value:
        """Add a linear layer over the last axis: a matrix product, a bias and an activation.

        Args:
            x: ``[…, inputs]``.
            sizes: the numbers of inputs and outputs.
            gain: the weight's variance times the number of inputs.
            act: the activation's operator; None for no activation.
        """
        y = self.op("MatMul", x, self.weight(sizes, sizes[0], gain, "linear_weight"))
        y = self.op("Add", y, self.constant(np.zeros(sizes[1]), "linear_bias"))
        return y if act is None else self.op(act, y)

    def layer_norm(self, x: ir.Value, width: int) -> ir.Value:
        """Add a layer normalisation over the last axis, which has ``width`` elements."""
        scale = self.constant(np.ones(width), "norm_scale")
        shift = self.constant(np.zeros(width), "norm_shift")
        return self.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=_EPSILON)

    def pooled(self, x: ir.Value) -> ir.Value:
        """Add a global average pool: ``[N, C, H, W]`` becomes ``[N, C]``."""
        return self.op("Flatten", self.op("GlobalAveragePool", x), axis=1)

    def finish(self, features: ir.Value, width: int, interface: Interface) -> ir.Model:
        """Add a linear layer for each output, and return the finished model.

        Args:
            features: ``[N, width]``.
            width: the number of features.
            interface: the outputs ``[N, …]`` of the graph that is replaced. Where such an output
                comes from a Softmax or another activation, the new output gets the same activation.
        """
        for original in interface.outputs:
            shape = interface.shape(original)[1:]
            y = self.linear(features, (width, prod(shape)), gain=1.0)
            if len(shape) != 1:
                y = self.op("Reshape", y, self.constant([0, *shape], "shape"))
            self._end(y, original)
        return self.model

    def _end(self, y: ir.Value, original: ir.Value) -> None:
        """Make ``y`` an output with the name and the last activation of the original output."""
        producer = original.producer()
        if producer is not None and producer.op_type in _ENDINGS:
            y = self.op(producer.op_type, y, **{k: a.value for k, a in producer.attributes.items()})
        y.name, y.shape, y.type = original.name, original.shape, original.type
        self.model.graph.outputs.append(y)

    def _normalised(self, x: ir.Value, width: int) -> ir.Value:
        one, zero = np.ones(width), np.zeros(width)
        learned = self.constant(one, "norm_scale"), self.constant(zero, "norm_shift")
        measured = self.constant(zero, "norm_mean"), self.constant(one, "norm_variance")
        return self.op("BatchNormalization", x, *learned, *measured, epsilon=_EPSILON)


_ENDINGS = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "Tanh", "Relu"})


def scaled(channels: int, width: float, step: int = 8) -> int:
    """Return a channel count times the width multiplier, rounded to a multiple of ``step``.

    Rounding never takes away more than a tenth of the channels.
    """
    exact = channels * width
    count = max(step, int(exact + step / 2) // step * step)
    return count if count >= 0.9 * exact else step * ceil(exact / step)
