"""Write operators that onnxruntime's optimizer fused as the nodes that they were.

They are described in onnxruntime's ``docs/ContribOperators.md``. Its optimizer fuses them again
when the file is opened.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from workers.compression.graph.editor import Editor
from workers.compression.graph.inference import infer
from workers.compression.graph.operators import operand
from workers.compression.graph.rewrites.attention import spell_out_attention
from workers.compression.graph.rewrites.splice import put, replace

_DOMAIN = "com.microsoft"

_ACTIVATIONS = {
    "Relu": (), "Tanh": (), "Sigmoid": (), "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max"),
}  # fmt: skip
"""The activations that a fused layer may have, each with its parameters in their order."""

_MEAN, _DEVIATION, _SUM = 1, 2, 3
"""The outputs of a SkipLayerNormalization after the first."""


def spell_out_fused(model: ir.Model) -> int:
    """Replace FusedConv, FusedGemm, FusedMatMul, Attention, Gelus with a bias, and normalised sums.

    1. A layer keeps its name: methods know it as a Conv, Gemm or MatMul.
    2. What a convolution adds to its output becomes an Add before the activation.
    3. Embeddings of words, places and kinds become a Gather each, and their sum.
    4. Left alone: an activation of another kind, a product that turns axes of the batch or a tensor
       of unknown rank, a normalisation whose statistics are read, a length without a mask.
    """
    rewrites: dict[str, Callable[[Editor, ir.Node], list[ir.Value | None] | None]] = {
        "FusedConv": _conv, "FusedGemm": _gemm, "FusedMatMul": _matmul,
        "BiasGelu": _gelu, "Gelu": _gelu, "FastGelu": _gelu,
        "SkipLayerNormalization": _skip_normalization,
        "EmbedLayerNormalization": _embedding, "Attention": spell_out_attention,
    }  # fmt: skip
    fused = [n for n in model.graph.all_nodes() if n.domain == _DOMAIN and n.op_type in rewrites]
    if not fused:
        return 0
    infer(model)
    edit, count = Editor(model), 0
    for node in fused:
        outputs = rewrites[node.op_type](edit, node)
        if outputs is not None:
            replace(node, outputs)
            count += 1
    return count


def _conv(edit: Editor, node: ir.Node) -> list[ir.Value | None] | None:
    summand = operand(node, 3)
    return _with_activation(edit, node, "Conv", summand)


def _gemm(edit: Editor, node: ir.Node) -> list[ir.Value | None] | None:
    return _with_activation(edit, node, "Gemm")


def _with_activation(
    edit: Editor, node: ir.Node, operator: str, summand: ir.Value | None = None
) -> list[ir.Value | None] | None:
    """Return the output of a layer, to which a summand is added, followed by its activation."""
    activation = node.attributes.get_string("activation", "")
    if activation and activation not in _ACTIVATIONS:
        return None
    fields = [v for k, v in node.attributes.items() if not k.startswith("activation")]
    total = put(edit, node, operator, *node.inputs[:3], attributes=fields)
    if summand is not None:
        total = put(edit, node, "Add", total, summand)
    if not activation:
        return [total]
    names = _ACTIVATIONS[activation]
    listed = node.attributes.get("activation_params")
    values = list(listed.as_floats()) if listed is not None else []
    values = values or [node.attributes.get_float(f"activation_{name}", 0.0) for name in names]
    if activation == "Clip":
        dtype = (node.outputs[0].dtype or ir.DataType.FLOAT).numpy()
        bounds = [
            edit.constant(f"{node.name}_{name}", np.asarray(value, dtype))
            for name, value in zip(names, values, strict=False)
        ]
        return [put(edit, node, activation, total, *bounds)]
    parameters = [ir.AttrFloat32(n, v) for n, v in zip(names, values, strict=False)]
    return [put(edit, node, activation, total, attributes=parameters)]


def _matmul(edit: Editor, node: ir.Node) -> list[ir.Value | None] | None:
    if any(node.attributes.get_int(f"transBatch{side}", 0) for side in "AB"):
        return None
    sides = list[ir.Value | None]()
    for side, value in zip("AB", node.inputs, strict=True):
        if not node.attributes.get_int(f"trans{side}", 0):
            sides.append(value)
            continue
        if value is None or value.shape is None:
            return None
        order = [*range(len(value.shape))]
        order[-2:] = reversed(order[-2:])
        turn = ir.AttrInt64s("perm", order)
        sides.append(put(edit, node, "Transpose", value, attributes=[turn]))
    product = put(edit, node, "MatMul", *sides)
    factor = node.attributes.get_float("alpha", 1.0)
    dtype = node.outputs[0].dtype or ir.DataType.FLOAT
    if factor == 1:
        return [product]
    scale = edit.constant(f"{node.name}_alpha", np.asarray(factor, dtype.numpy()))
    return [put(edit, node, "Mul", product, scale)]


def _gelu(edit: Editor, node: ir.Node) -> list[ir.Value | None]:
    x, bias = [*node.inputs, None][:2]
    total = x if bias is None else put(edit, node, "Add", x, bias)
    kind = ir.AttrString("approximate", "tanh" if node.op_type == "FastGelu" else "none")
    return [put(edit, node, "Gelu", total, attributes=[kind])]


def _skip_normalization(edit: Editor, node: ir.Node) -> list[ir.Value | None] | None:
    outputs = [*node.outputs, None, None, None][: _SUM + 1]
    statistics = (outputs[_MEAN], outputs[_DEVIATION])
    if any(v is not None and (v.uses() or v.is_graph_output()) for v in statistics):
        return None
    x, skip, scale, shift, bias = [*node.inputs, None, None][:5]
    total = put(edit, node, "Add", x, skip)
    if bias is not None:
        total = put(edit, node, "Add", total, bias)
    normal = _normalised(edit, node, total, scale, shift)
    return [normal, None, None, total][: len(node.outputs)]


def _embedding(edit: Editor, node: ir.Node) -> list[ir.Value | None] | None:
    slots = [*node.inputs, *[None] * 9][:9]
    ids, kinds, words, places, kind_table, scale, shift, mask, positions = slots
    length = node.outputs[1] if len(node.outputs) > 1 else None
    counted = None
    if length is not None and (length.uses() or length.is_graph_output()):
        if mask is None:
            return None
        axis = edit.constant(f"{node.name}_axis", np.array([1]))
        fields = [ir.AttrInt64("keepdims", 0)]
        counted = put(edit, node, "ReduceSum", mask, axis, attributes=fields, dtype=length.dtype)
    if positions is None:
        begin, bounds = edit.constant(f"{node.name}_begin", np.array([0])), {"start": 1, "end": 2}
        fields = [ir.AttrInt64(name, bound) for name, bound in bounds.items()]
        end = put(edit, node, "Shape", ids, attributes=fields, dtype=begin.dtype)
        placed = put(edit, node, "Slice", places, begin, end, begin)
    else:
        placed = put(edit, node, "Gather", places, positions)
    total = put(edit, node, "Add", put(edit, node, "Gather", words, ids), placed)
    if kinds is not None and kind_table is not None:
        total = put(edit, node, "Add", total, put(edit, node, "Gather", kind_table, kinds))
    normal = _normalised(edit, node, total, scale, shift)
    return [normal, counted, total][: len(node.outputs)]


def _normalised(
    edit: Editor, node: ir.Node, total: ir.Value, scale: ir.Value | None, shift: ir.Value | None
) -> ir.Value:
    """Return a sum that is normalised over its last axis, as a fused node says."""
    epsilon = ir.AttrFloat32("epsilon", node.attributes.get_float("epsilon", 1e-12))
    attributes = [ir.AttrInt64("axis", -1), epsilon]
    parts = (total, scale) if shift is None else (total, scale, shift)
    return put(edit, node, "LayerNormalization", *parts, attributes=attributes)
