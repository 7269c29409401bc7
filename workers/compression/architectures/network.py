"""A network in the making: each call adds nodes to a graph and returns the value that they give."""

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
    """A graph with another's inputs, to which layers are added.

    Weights are drawn after He et al. (2015). Behind each convolution stands a BatchNormalization,
    which is folded away once the network is trained.

    Args:
        inputs: of the graph to stand in for; their names, types and shapes are taken over.
        name: of the graph.
        seed: draws the weights.
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
        given, fresh = np.asarray(array), self._edit.fresh(name)
        kind = np.float32 if given.dtype.kind == "f" else np.int64
        tensor = ir.Tensor(given.astype(kind), name=fresh)
        value = ir.val(fresh, const_value=tensor)
        self.model.graph.register_initializer(value)
        return value

    def weight(self, shape: Sequence[int], fan_in: int, gain: float, name: str) -> ir.Value:
        """Add normal numbers whose variance is ``gain / fan_in``."""
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
            sizes: channels in and out.
            kernel: its height and width.
            stride: in both directions.
            groups: as many as channels for a depthwise convolution.
            act: an operator; ``Clip`` for ReLU6.
        """
        read, written = sizes
        shape = (written, read // groups, kernel, kernel)
        y = self.op(
            "Conv",
            x,
            self.weight(shape, prod(shape[1:]), 2.0, "conv_weight"),
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            kernel_shape=[kernel, kernel],
            group=groups,
        )
        y = self._normalised(y, written)
        return y if act is None else self.act(y, act)

    def act(self, x: ir.Value, kind: str) -> ir.Value:
        """Add an activation; ``Clip`` is ReLU6."""
        if kind != "Clip":
            return self.op(kind, x)
        return self.op("Clip", x, self.constant(np.zeros(())), self.constant(np.full((), 6.0)))

    def linear(
        self, x: ir.Value, sizes: tuple[int, int], *, gain: float = 2.0, act: str | None = None
    ) -> ir.Value:
        """Add a product with a matrix over the last axis, a bias, and an activation."""
        y = self.op("MatMul", x, self.weight(sizes, sizes[0], gain, "linear_weight"))
        y = self.op("Add", y, self.constant(np.zeros(sizes[1]), "linear_bias"))
        return y if act is None else self.op(act, y)

    def layer_norm(self, x: ir.Value, width: int) -> ir.Value:
        """Normalise over the last axis."""
        scale = self.constant(np.ones(width), "norm_scale")
        shift = self.constant(np.zeros(width), "norm_shift")
        return self.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=_EPSILON)

    def pooled(self, x: ir.Value) -> ir.Value:
        """Average ``[N, C, H, W]`` over the image, ``[N, C]``."""
        return self.op("Flatten", self.op("GlobalAveragePool", x), axis=1)

    def answer(self, features: ir.Value, width: int, interface: Interface) -> ir.Model:
        """End in a layer for each output that is to be given, and return the whole.

        Args:
            features: ``[N, width]``.
            width: of the features.
            interface: what the graph stood in for gives, ``[N, …]``; where that ends in a Softmax
                or the like, so does this.
        """
        for like in interface.outputs:
            rest = interface.shape(like)[1:]
            y = self.linear(features, (width, prod(rest)), gain=1.0)
            if len(rest) != 1:
                y = self.op("Reshape", y, self.constant([0, *rest], "shape"))
            self._end(y, like)
        return self.model

    def _end(self, y: ir.Value, like: ir.Value) -> None:
        """Make a value an output, under the name and with the last activation of another."""
        last = like.producer()
        if last is not None and last.op_type in _ENDINGS:
            y = self.op(last.op_type, y, **{k: a.value for k, a in last.attributes.items()})
        y.name, y.shape, y.type = like.name, like.shape, like.type
        self.model.graph.outputs.append(y)

    def _normalised(self, x: ir.Value, width: int) -> ir.Value:
        one, zero = np.ones(width), np.zeros(width)
        learned = self.constant(one, "norm_scale"), self.constant(zero, "norm_shift")
        measured = self.constant(zero, "norm_mean"), self.constant(one, "norm_variance")
        return self.op("BatchNormalization", x, *learned, *measured, epsilon=_EPSILON)


_ENDINGS = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "Tanh", "Relu"})


def scaled(channels: int, width: float, step: int = 8) -> int:
    """Return a channel count times a width, a multiple of ``step`` that loses less than a tenth."""
    wish = channels * width
    count = max(step, int(wish + step / 2) // step * step)
    return count if count >= 0.9 * wish else step * ceil(wish / step)
