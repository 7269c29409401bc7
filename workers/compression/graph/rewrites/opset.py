"""Lift a graph to the one opset that everything here reads and writes."""

import gc
import logging

import onnx
import onnx_ir as ir
from onnx import inliner
from onnxscript.version_converter import ConvertVersionPass

from workers.compression.graph.inference import infer
from workers.compression.graph.load import weight_bytes
from workers.compression.graph.operators import OPSET, key_of, operand
from workers.compression.graph.rewrites.constants import lift_constants
from workers.compression.graph.rewrites.splice import replace

_IR_VERSION = 10
"""The IR version that belongs to the opset."""

_CORNERS = 10
"""The last opset whose Resize and Upsample measure coordinates from the corner of a pixel."""

_ANY_AXIS = 13
"""The first opset whose Softmax is over one axis, not over all from one on."""

_ONNXSCRIPT = 18
"""The first opset that onnxscript's converter knows."""

_MANY = 10_000
"""Nodes of a graph that is worth the time to find its memory."""
_READ = 1_000
"""Bytes up to which onnx's converter is given a constant: it may be axes, sizes or limits."""

_SMALL = 1 << 30
"""Bytes of weights up to which a whole graph is handed to a converter in one piece."""


def lift_opset(model: ir.Model) -> int:
    """Convert a graph to opset 21, whatever opset it was exported with.

    1. onnxscript's converter from opset 18 on, onnx's before and after; weights stay outside of it.
    2. Resize and Upsample of opset 10 and older count from the corner of a pixel; the converters
       do not state it where it is not the default.
    3. What opset 21 does not have (Attention, RMSNormalization, RotaryEmbedding, Swish) is written
       out first.
    4. A Softmax of opset 12 and older over the last axis loses the Flatten and Reshape that the
       converter puts around it where it does not know sizes.
    5. The constants that converters add are initializers, like all others.

    Refused: a graph that no converter brings to opset 21.

    Raises:
        ValueError: no converter can lift it.
    """
    before = model.graph.opset_imports.get("")
    if before is None or before == OPSET:
        return 0
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    if before > OPSET:
        _write_out(model)
    _convert(model, before)
    if model.graph.opset_imports.get("") != OPSET:
        raise ValueError(f"no converter brings opset {before} to {OPSET}")
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type == "Resize" and before <= _CORNERS:
            _count_from_corner(node)
    lift_constants(model)
    if before < _ANY_AXIS:
        infer(model)
        _unwrap_softmaxes(model)
    model.ir_version = max(model.ir_version, _IR_VERSION)
    return 1


def _convert(model: ir.Model, before: int) -> None:
    """Convert a graph, whose functions are inlined, by the converter that knows its opset."""
    if _ONNXSCRIPT <= before <= OPSET:
        ConvertVersionPass(OPSET, fallback=False)(model)
        return
    graph = model.graph
    many = len(graph) > _MANY
    tensors = {name: value.const_value for name, value in graph.initializers.items()}
    users = len(graph.inputs)
    listed = {*graph.inputs}
    large = [
        value
        for name, value in graph.initializers.items()
        if (tensor := tensors[name]) is not None and tensor.nbytes > _READ
    ]
    graph.inputs.extend(value for value in graph.initializers.values() if value not in listed)
    for value in large:
        del graph.initializers[str(value.name)]
    proto = ir.serde.serialize_model(model)
    model.graph = ir.serde.deserialize_model(
        onnx.version_converter.convert_version(proto, OPSET)
    ).graph
    for value in model.graph.inputs:
        if value.name in tensors:
            value.const_value = tensors[value.name]
            model.graph.register_initializer(value)
    inputs = model.graph.inputs[:users]
    model.graph.inputs.clear()
    model.graph.inputs.extend(inputs)
    del graph, listed, large
    if many:
        gc.collect()  # the old graph, whose nodes and values know each other


def _count_from_corner(resize: ir.Node) -> None:
    modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    resize.attributes.update({name: ir.AttrString(name, mode) for name, mode in modes.items()})


def _unwrap_softmaxes(model: ir.Model) -> None:
    """Make a Softmax over the last axis read the input of the Flatten that the converter added."""
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        softmax = _maker(node, 0, "Softmax", "LogSoftmax") if node.op_type == "Reshape" else None
        flatten = _maker(softmax, 0, "Flatten")
        shape = _maker(node, 1, "Shape")
        if softmax is None or flatten is None or shape is None:
            continue
        value = flatten.inputs[0]
        rank = len(value.shape) if value is not None and value.shape is not None else 0
        last = rank and flatten.attributes.get_int("axis", 1) % rank == rank - 1
        if value is not None and last and shape.inputs[0] is value:
            softmax.replace_input_with(0, value)
            softmax.outputs[0].shape = value.shape
            replace(node, softmax.outputs)


def _maker(node: ir.Node | None, slot: int, *operators: str) -> ir.Node | None:
    """Return the producer of an input, if it has one of these operators."""
    value = operand(node, slot) if node is not None else None
    maker = value.producer() if value is not None else None
    return maker if maker is not None and maker.op_type in operators else None


def _write_out(model: ir.Model) -> None:
    """Replace operators that opset 21 does not have by the bodies that the standard gives them."""
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    names = {node.op_type for node in nodes if key_of(node)[0] == ""}
    newer = [("", name) for name in sorted(names) if not onnx.defs.has(name, OPSET)]
    if not newer or weight_bytes(model) > _SMALL:
        return
    proto = ir.serde.serialize_model(model)
    written = inliner.inline_selected_functions(proto, newer, inline_schema_functions=True)
    model.graph = ir.serde.deserialize_model(written).graph
