"""Infers types and shapes by ONNX's inference, for graphs of any size.

Inference sees a skeleton of the graph: nodes, types, and the small constants that shapes are
computed from. Weights are declared, not copied.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir

from workers.compression.graph.schemas import output_type
from workers.compression.graph.subgraphs import subgraphs_of

_READ = 1_000
"""Bytes up to which a constant may be a shape, axes or sizes, and its values are handed over."""

_CONSTANTS = 4
"""The IR version from which on initializers need not be inputs."""

Dimensions = Sequence[int | str | None]


def infer(model: ir.Model) -> None:
    """Infer types and shapes in place, dynamic dimensions kept as symbols.

    The types and shapes that the file states for intermediate values are dropped first, as they
    may be wrong. Declared inputs stay unchanged; outputs gain what was not declared. Where ONNX has
    no inference for an operator, as for many of other domains, its schema may tell the type.
    """
    proto = inferred(model, {})
    _merge(model.graph, onnx.GraphProto() if proto is None else proto.graph, root=True)
    for node in model.graph.all_nodes():
        for slot, value in enumerate(node.outputs):
            if value.type is None and value.name:
                opset = model.graph.opset_imports.get(node.domain, 1)
                value.type = output_type(node, slot, opset)


def inferred(
    model: ir.Model, inputs: Mapping[str, Dimensions], *, outputs: bool = True
) -> onnx.ModelProto | None:
    """Return a skeleton of a graph with all types and shapes that can be inferred.

    Args:
        model: the graph; not changed.
        inputs: dimensions that replace the declared ones, by input.
        outputs: whether to trust the declared shapes of outputs.

    Returns:
        A model that cannot be run, or None if the inference fails.
    """
    skeleton = _skeleton(model)
    for value in skeleton.graph.input:
        if value.name in inputs:
            _declare(value, value.type.tensor_type.elem_type, inputs[value.name])
    for value in () if outputs else skeleton.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        return onnx.shape_inference.infer_shapes(
            skeleton, check_type=False, strict_mode=False, data_prop=True
        )
    except Exception:  # noqa: BLE001 (onnx has no class for it: what is not inferred stays unknown)
        return None


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and all graphs in its nodes' attributes."""
    pending = [graph]
    while pending:
        current = pending.pop()
        yield current
        pending += [child for node in current.node for child in subgraphs_of(node)]


def dimensions(value: onnx.ValueInfoProto) -> list[int | str | None] | None:
    """Return the dimensions of a value: sizes, names, None where one is unknown."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in value.type.tensor_type.shape.dim
    ]


def _skeleton(model: ir.Model) -> onnx.ModelProto:
    proto = onnx.ModelProto(ir_version=max(model.ir_version, _CONSTANTS))
    for domain, version in model.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    _add_graph(proto.graph, model.graph, root=True)
    for function in model.functions.values():
        ir.serde.serialize_function_into(proto.functions.add(), function)
    return proto


def _add_graph(proto: onnx.GraphProto, graph: ir.Graph, *, root: bool) -> None:
    """Write a graph with declared types, and without the stated types of intermediate values."""
    proto.name = graph.name or "graph"
    for value in graph.inputs:
        ir.serde.serialize_value_into(proto.input.add(), value)
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes <= _READ:
            tensor.name = value.name
            ir.serde.serialize_tensor_into(proto.initializer.add(), tensor)
        elif tensor is not None and not value.is_graph_input():
            info = proto.value_info.add(name=value.name)
            _declare(info, tensor.dtype.value, tensor.shape.numpy())
    for node in graph:
        _add_node(proto.node.add(), node)
        for value in node.outputs if node.domain else ():
            if value.name and value.type is not None and not value.is_graph_output():
                ir.serde.serialize_type_into(proto.value_info.add(name=value.name).type, value.type)
    for value in graph.outputs:
        ir.serde.serialize_value_into(proto.output.add(), value)
        if not root and value.producer() is not None:
            proto.output[-1].type.tensor_type.ClearField("shape")


def _add_node(proto: onnx.NodeProto, node: ir.Node) -> None:
    proto.op_type, proto.domain, proto.overload = node.op_type, node.domain, node.overload
    proto.input.extend([value.name or "" if value is not None else "" for value in node.inputs])
    proto.output.extend([value.name or "" for value in node.outputs])
    for attribute in node.attributes.values():
        into = proto.attribute.add()
        if attribute.is_ref():
            ir.serde.serialize_reference_attribute_into(into, attribute)
        elif attribute.type == ir.AttributeType.GRAPH:
            into.name, into.type = attribute.name, onnx.AttributeProto.GRAPH
            _add_graph(into.g, attribute.as_graph(), root=False)
        else:
            ir.serde.serialize_attribute_into(into, attribute)
    if node.op_type == "STFT" and "onesided" not in node.attributes:
        proto.attribute.add(name="onesided", type=onnx.AttributeProto.INT, i=1)  # its default,
        # which ONNX's inference takes for 0


def _declare(value: onnx.ValueInfoProto, elements: int, dims: Dimensions) -> None:
    """Declare a value as a tensor of an element type and dimensions."""
    kind = value.type.tensor_type
    kind.elem_type = elements
    kind.ClearField("shape")
    kind.shape.SetInParent()
    for size in dims:
        entry = kind.shape.dim.add()
        if isinstance(size, int):
            entry.dim_value = size
        elif size is not None:
            entry.dim_param = size


def _merge(graph: ir.Graph, proto: onnx.GraphProto, *, root: bool) -> None:
    """Take the shapes and types of a graph's values over from its inferred skeleton."""
    infos = {info.name: info for info in (*proto.value_info, *proto.output)}
    for value in graph.initializers.values():
        if value.const_value is not None and value.shape is None:
            value.shape = ir.Shape(value.const_value.shape.numpy())
        if value.const_value is not None and value.dtype is None:
            value.dtype = value.const_value.dtype
    for index, node in enumerate(graph):
        for value in node.outputs:
            declared = root and value.is_graph_output()
            _set(value, infos.get(value.name or ""), declared=declared)
        children = [a.as_graph() for a in node.attributes.values() if _holds_graph(a)]
        if children:
            inside = subgraphs_of(proto.node[index]) if proto.node else []
            for child, skeleton in zip(
                children, inside or [onnx.GraphProto()] * len(children), strict=True
            ):
                _merge(child, skeleton, root=False)


def _holds_graph(attribute: ir.Attr) -> bool:
    return attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref()


def _set(value: ir.Value, info: onnx.ValueInfoProto | None, *, declared: bool) -> None:
    """Set the inferred type and shape of a value; the declared type of an output stays."""
    dims = None if info is None else dimensions(info)
    if not (declared and value.shape is not None):
        value.shape = None if dims is None else ir.Shape(dims)
    if info is None or (declared and value.type is not None):
        return
    kind: Any = ir.serde.deserialize_type_proto_for_type(info.type)
    if kind is not None and kind.dtype != ir.DataType.UNDEFINED:
        value.type = kind
