"""The rules for how dimensions pass through operators, in one table: an operator is one row."""

from collections.abc import Callable

import onnx_ir as ir

from workers.compression.methods.prune.rules import elementwise, layout, products
from workers.compression.methods.prune.trace import Labels, Trace

Rule = Callable[[ir.Node, Trace], list[Labels]]
"""Returns the labels of a node's outputs; the trace holds the labels of its inputs."""

_ALIKE = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil",
    "Celu", "Cos", "Cosh", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
    "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not",
    "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh",
    "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu", "FastGelu",
    "QuickGelu",
)  # fmt: skip

_BROADCAST = (
    "Add", "And", "BitShift", "CastLike", "Clip", "Div", "Equal", "Greater", "GreaterOrEqual",
    "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub",
    "Sum", "Where", "Xor", "BiasGelu",
)  # fmt: skip

_REDUCE = (
    "ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip

_POOL = (
    "AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool",
)  # fmt: skip

RULES: dict[str, Rule] = {
    **dict.fromkeys(_ALIKE, elementwise.same_shape),
    **dict.fromkeys(_BROADCAST, elementwise.broadcast),
    **dict.fromkeys(_REDUCE, elementwise.reduce),
    **dict.fromkeys(_POOL, elementwise.pool),
    # normalisation
    "BatchNormalization": elementwise.per_channel,
    "InstanceNormalization": elementwise.per_channel,
    "GroupNormalization": elementwise.in_groups,
    "LayerNormalization": elementwise.over_trailing_axes,
    "RMSNormalization": elementwise.over_trailing_axes,
    "LpNormalization": elementwise.over_axis,
    "Softmax": elementwise.over_axis,
    "LogSoftmax": elementwise.over_axis,
    "Hardmax": elementwise.over_axis,
    # products
    "Conv": products.conv,
    "ConvTranspose": products.conv_transpose,
    "Gemm": products.gemm,
    "MatMul": products.matmul,
    # layout
    "Reshape": layout.reshape,
    "Flatten": layout.reshape,
    "Squeeze": layout.reshape,
    "Unsqueeze": layout.reshape,
    "Transpose": layout.transpose,
    "Concat": layout.concat,
    "Split": layout.split,
    "Slice": layout.slice_,
    "Gather": layout.gather,
    "Expand": layout.expand,
    "Tile": layout.tile,
    "Pad": layout.pad,
    "Resize": layout.resize,
    "DepthToSpace": layout.depth_to_space,
}
"""The rule of each operator type. Without a rule, all dimensions of a node's inputs are fixed."""
