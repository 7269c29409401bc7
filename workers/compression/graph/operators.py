"""The table of operators that hold weights or multiply; a new operator is one row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

OPSET = 21
"""The one opset of the normal form: the first one with 16-bit and blocked QuantizeLinear, and a
Gelu and a HardSwish."""

RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
"""The standard's operators that run along a sequence with a state."""

Shape = Sequence[int]
Macs = Callable[[ir.Node, Sequence[Shape | None], Shape], int | None]
"""From a node, its inputs' shapes and its first output's shape to multiply-accumulates."""


@dataclass(frozen=True)
class Operator:
    """The places of the weights of an operator, and its cost. Slots are input positions."""

    weights: tuple[int, ...] = ()
    """Slots of weights."""
    biases: tuple[int, ...] = ()
    """Slots of biases and of the offsets of normalisations."""
    zero_points: tuple[int, ...] = ()
    """Slots of the weights' zero points, in the order of ``weights``; for quantized forms."""
    channel_axis: int | None = None
    """Axis of the first weight that counts output channels; negative from the end."""
    input_axis: int | None = None
    """Axis of the first weight that counts input channels, of one group; negative from the end."""
    macs: Macs | None = None
    measured: tuple[int, ...] = ()
    """Slots of constants that are measured on data or designed, and not trained."""
    is_layer: bool = False
    """Whether it is a product of data with one weight: such layers are pruned and fitted."""
    multiplies: bool = False
    """Whether a following Add of a constant is its bias: a MatMul has no bias slot."""


def operator_of(node: ir.Node) -> Operator | None:
    """Return the table's row for a node, None for an operator without weights or cost."""
    return OPERATORS.get(key_of(node))


def key_of(node: ir.Node) -> tuple[str, str]:
    """Return the key of a node in tables of operators: domain and operator."""
    return "" if node.domain == "ai.onnx" else node.domain, node.op_type


def operand(node: ir.Node, slot: int) -> ir.Value | None:
    """Return an input of a node by its position; None where the node has none there."""
    return node.inputs[slot] if slot < len(node.inputs) else None


def bias_of(node: ir.Node) -> ir.Value | None:
    """Return the bias of a node, None where it has none."""
    operator = operator_of(node)
    return operand(node, operator.biases[0]) if operator is not None and operator.biases else None


def channel_axis(node: ir.Node) -> int | None:
    """Return the axis of the first weight that counts output channels, by the node's attributes."""
    operator = operator_of(node)
    if operator is None:
        return None
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return operator.channel_axis


def input_axis(node: ir.Node) -> int | None:
    """Return the axis of the first weight that counts input channels, by the node's attributes."""
    operator = operator_of(node)
    if operator is None:
        return None
    if node.op_type == "Gemm":
        return 1 if node.attributes.get_int("transB", 0) else 0
    return operator.input_axis


def is_layer(node: ir.Node) -> bool:
    """Return whether a node is a product of data with one weight, which lies in slot 1."""
    operator = operator_of(node)
    return operator is not None and operator.is_layer


def is_uncounted(node: ir.Node) -> bool:
    """Return whether a node multiplies by weights, and its multiply-accumulates are not counted.

    So it is with recurrent layers: the figure that clients rely on is of convolutions and products.
    """
    operator = operator_of(node)
    return operator is not None and operator.macs is None and operator.input_axis is not None


def holds_unknown_weights(node: ir.Node) -> bool:
    """Return whether an operator of another domain, which the table lacks, reads stored matrices.

    No method knows what such matrices multiply: all leave them as they are, and say so.
    """
    if operator_of(node) is not None or key_of(node)[0] == "":
        return False
    constants = (v for v in node.inputs if v is not None and v.is_initializer())
    return any(
        v.dtype is not None and v.dtype.is_floating_point() and len(v.shape or ()) > 1
        for v in constants
    )


def is_quantized(value: ir.Value | None) -> bool:
    """Return whether a value is dequantized, as the weights of integer uploads are."""
    maker = value.producer() if value is not None else None
    return maker is not None and maker.op_type == "DequantizeLinear"


def _conv(weight: int) -> Macs:
    """Each output element sums over the kernel and the input channels of its group."""

    def macs(_node: ir.Node, inputs: Sequence[Shape | None], output: Shape) -> int | None:
        kernel = inputs[weight]
        return None if kernel is None else prod(output) * prod(kernel[1:])

    return macs


def _conv_transpose(_node: ir.Node, inputs: Sequence[Shape | None], _output: Shape) -> int | None:
    """Each input element is spread over the kernel and the output channels of its group."""
    data, kernel = inputs[0], inputs[1]
    return None if data is None or kernel is None else prod(data) * prod(kernel[1:])


def _matmul(node: ir.Node, inputs: Sequence[Shape | None], output: Shape) -> int | None:
    """Each output element is a dot product over the last axis of the first operand."""
    data = inputs[0]
    if data is None:
        return None
    transposed = node.attributes.get_int("transA", 0) and len(data) > 1
    return prod(output) * data[-2 if transposed else -1]


def _einsum(node: ir.Node, inputs: Sequence[Shape | None], _output: Shape) -> int | None:
    """Each combination of its indices costs one multiplication for two operands, two for three."""
    terms = node.attributes.get_string("equation", "").replace(" ", "").split("->")[0].split(",")
    if len(terms) != len(inputs) or None in inputs or "." in "".join(terms):
        return None
    shapes = (shape or () for shape in inputs)
    pairs = zip(terms, shapes, strict=True)
    sizes = {c: size for term, shape in pairs for c, size in zip(term, shape, strict=True)}
    return prod(sizes.values()) * (len(terms) - 1)


def _matmul_nbits(node: ir.Node, _inputs: Sequence[Shape | None], output: Shape) -> int | None:
    return prod(output) * node.attributes.get_int("K", 0)


_MS = "com.microsoft"

OPERATORS: dict[tuple[str, str], Operator] = {
    # convolutions
    ("", "Conv"): Operator((1,), (2,), (), 0, 1, _conv(1), is_layer=True),
    ("", "ConvTranspose"): Operator((1,), (2,), (), 1, 0, _conv_transpose, is_layer=True),
    ("", "DeformConv"): Operator((1,), (3,), (), 0, 1),
    ("", "QLinearConv"): Operator((3,), (8,), (5,), 0, 1, _conv(3)),
    ("", "ConvInteger"): Operator((1,), (), (3,), 0, 1, _conv(1), multiplies=True),
    (_MS, "FusedConv"): Operator((1,), (2,), (), 0, 1, _conv(1)),
    # products
    ("", "MatMul"): Operator((1, 0), (), (), -1, -2, _matmul, is_layer=True, multiplies=True),
    ("", "Gemm"): Operator((1, 0), (2,), (), None, None, _matmul, is_layer=True),
    ("", "Einsum"): Operator((1, 0, 2), (), (), -1, None, _einsum, multiplies=True),
    ("", "MatMulInteger"): Operator((1, 0), (), (3, 2), -1, -2, _matmul, multiplies=True),
    ("", "QLinearMatMul"): Operator((3, 0), (), (5, 2), -1, -2, _matmul, multiplies=True),
    (_MS, "QGemm"): Operator((3,), (6,), (5,), None, None, _matmul),
    (_MS, "FusedMatMul"): Operator((1, 0), (), (), -1, -2, _matmul, multiplies=True),
    (_MS, "FusedGemm"): Operator((1, 0), (2,), (), None, None, _matmul),
    (_MS, "DynamicQuantizeMatMul"): Operator((1,), (4,), (3,), -1, -2, _matmul, multiplies=True),
    (_MS, "MatMulIntegerToFloat"): Operator((1,), (6,), (5,), -1, -2, _matmul, multiplies=True),
    (_MS, "MatMulNBits"): Operator((1,), (5,), (3,), 0, 1, _matmul_nbits, multiplies=True),
    # look-ups
    ("", "Gather"): Operator((0,), channel_axis=-1),
    (_MS, "GatherBlockQuantized"): Operator((0,), (), (3,), -1),
    # recurrence
    ("", "RNN"): Operator((1, 2), (3,), (), 1, 2),
    ("", "GRU"): Operator((1, 2), (3,), (), 1, 2),
    ("", "LSTM"): Operator((1, 2), (3, 7), (), 1, 2),
    (_MS, "DynamicQuantizeLSTM"): Operator((1, 2), (3, 7), (9, 11), 1, 2),
    # normalisation
    ("", "BatchNormalization"): Operator((1,), (2,), (), 0, measured=(3, 4)),
    ("", "InstanceNormalization"): Operator((1,), (2,), (), 0),
    ("", "LayerNormalization"): Operator((1,), (2,), (), -1),
    ("", "GroupNormalization"): Operator((1,), (2,), (), 0),
    ("", "RMSNormalization"): Operator((1,), (), (), -1),
    (_MS, "SkipLayerNormalization"): Operator((2,), (3, 4), (), -1),
    (_MS, "SkipSimplifiedLayerNormalization"): Operator((2,), (3,), (), -1),
    # scales of quantization, and windows of spectra
    ("", "QuantizeLinear"): Operator(measured=(1,)),
    ("", "DequantizeLinear"): Operator(measured=(1,)),
    (_MS, "QuantizeLinear"): Operator(measured=(1,)),
    (_MS, "DequantizeLinear"): Operator(measured=(1,)),
    ("", "STFT"): Operator(measured=(2,)),
}
