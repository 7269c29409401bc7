"""Checks a parsed ONNX model before any library computes with it.

The libraries check some of this and crash on the rest, so the figures that an attacker chooses
(dimensions, lengths, call graphs) are checked here, in Python's unbounded integers.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from math import prod

import onnx
import onnx_ir as ir

from app.domain.problems import InvalidModel
from workers.compression.graph import external
from workers.compression.graph.subgraphs import all_graphs, subgraphs_of
from workers.compression.intake.limits import ModelLimits

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator domains that onnxruntime runs without a custom library."""

_MIN_OPSET = 7

_TYPES = frozenset(ir.DataType) - {ir.DataType.UNDEFINED}

_TYPED_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data",
                 "uint64_data")  # fmt: skip


def check_model(proto: onnx.ModelProto, limits: ModelLimits) -> None:
    """Refuse a parsed model with invalid names, tensors, functions or operators.

    Raises:
        InvalidModel: the model is refused; the message says why and what to do instead.
    """
    if not proto.HasField("graph") or not proto.graph.node:
        raise InvalidModel("The file holds no ONNX graph with nodes; is it an ONNX model?")
    _check_opset(proto)
    for tensor in external.tensors(proto):
        check_tensor(tensor, limits)
    for graph in all_graphs(proto.graph):
        _check_names(graph, limits)
    _check_interface(proto.graph, limits)
    _check_functions(proto, limits)
    _check_domains(proto)
    weights = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
    for node in _all_nodes(proto.graph.node):
        if node.op_type == "MatMulNBits":
            _check_packed_weight(node, weights)


def check_tensor(tensor: onnx.TensorProto, limits: ModelLimits) -> None:
    """Refuse a tensor whose type, shape and data do not agree."""
    name = f"Tensor '{tensor.name[:80]}'"
    try:
        bits = ir.DataType(tensor.data_type).bitwidth if tensor.data_type else 0
    except (ValueError, TypeError, KeyError):
        bits = 8 if tensor.data_type == onnx.TensorProto.STRING else 0
    if not bits:
        raise InvalidModel(f"{name} has an unknown data type ({tensor.data_type}).")
    nonzero = prod(dim for dim in tensor.dims if dim)
    if any(dim < 0 for dim in tensor.dims) or nonzero > limits.elements:
        raise InvalidModel(f"{name} has an impossible shape: {list(tensor.dims)[:8]}.")
    if tensor.HasField("segment"):
        raise InvalidModel(f"{name} is stored in segments, which no runtime reads.")
    if not external.is_external(tensor):
        _check_data(tensor, bits, name)


def _check_data(tensor: onnx.TensorProto, bits: int, name: str) -> None:
    elements = prod(tensor.dims)
    typed = {field: len(getattr(tensor, field)) for field in _TYPED_FIELDS}
    sources = sum(1 for count in typed.values() if count) + tensor.HasField("raw_data")
    if sources > 1:
        raise InvalidModel(f"{name} has its data in several fields.")
    if tensor.HasField("raw_data"):
        if tensor.data_type == onnx.TensorProto.STRING:
            raise InvalidModel(f"{name} holds strings as raw bytes.")
        if len(tensor.raw_data) != external.stored_bytes(tensor):
            raise InvalidModel(
                f"{name} should hold {external.stored_bytes(tensor)} bytes by its type and shape"
                f" but holds {len(tensor.raw_data)}."
            )
        return
    expected = _typed_length(tensor, elements, bits)
    if sum(typed.values()) != expected:
        raise InvalidModel(
            f"{name} should hold {expected} values by its shape but holds {sum(typed.values())}."
        )


def _typed_length(tensor: onnx.TensorProto, elements: int, bits: int) -> int:
    """Return the entries of a typed field: a complex element takes two, two 4-bit elements one."""
    if tensor.data_type in {onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128}:
        return 2 * elements
    return (elements * bits + 7) // 8 if bits < 8 else elements


def _check_opset(proto: onnx.ModelProto) -> None:
    version = opset(proto)
    if not _MIN_OPSET <= version <= onnx.defs.onnx_opset_version():
        raise InvalidModel(
            f"The model uses opset {version}; opsets {_MIN_OPSET} to"
            f" {onnx.defs.onnx_opset_version()} are read. Export it again, or convert it with"
            " onnx.version_converter.convert_version."
        )


def opset(proto: onnx.ModelProto) -> int:
    """Return the version of the default operator domain, 0 when it is not imported."""
    versions = {entry.domain: int(entry.version) for entry in proto.opset_import}
    return versions.get("", versions.get("ai.onnx", 0))


def _check_names(graph: onnx.GraphProto, limits: ModelLimits) -> None:
    groups = {
        "input": [value.name for value in graph.input],
        "output": [value.name for value in graph.output],
        "initializer": [
            *(tensor.name for tensor in graph.initializer),
            *(sparse.values.name for sparse in graph.sparse_initializer),
        ],
        "node output": [name for node in graph.node for name in node.output if name],
    }
    for kind, names in groups.items():
        counts = Counter(names)
        if repeated := [name for name, count in counts.items() if count > 1]:
            raise InvalidModel(f"The model has more than one {kind} named '{repeated[0][:80]}'.")
        if "" in counts or any(len(name) > limits.name for name in counts):
            raise InvalidModel(f"The model has an {kind} whose name is empty or too long.")


def _check_interface(graph: onnx.GraphProto, limits: ModelLimits) -> None:
    if not graph.output:
        raise InvalidModel("The model has no outputs.")
    if max(len(graph.input) - len(graph.initializer), len(graph.output)) > limits.inputs:
        raise InvalidModel(f"The model has more than {limits.inputs} inputs or outputs.")
    weights = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.type.WhichOneof("value") != "tensor_type":
            raise InvalidModel(
                f"Input '{value.name}' is no tensor; sequences and optional values are not"
                " supported: export the model with a tensor in its place."
            )
        if value.name in weights:
            continue
        tensor = value.type.tensor_type
        if tensor.elem_type not in _TYPES or not tensor.HasField("shape"):
            raise InvalidModel(
                f"Input '{value.name}' has no type or no shape. Export the model again with an"
                " example input, naming the dynamic dimensions."
            )
        dims = [dim.dim_value for dim in tensor.shape.dim]
        if any(dim < -1 for dim in dims) or prod(filter(None, dims)) > limits.elements:
            raise InvalidModel(f"Input '{value.name}' has an impossible shape: {dims[:8]}.")
    for value in graph.output:
        if value.type.WhichOneof("value") not in {"tensor_type", None}:
            raise InvalidModel(
                f"Output '{value.name}' is no tensor; sequences and maps are not supported: export"
                " the model without it (scikit-learn's without ZipMap: options={'zipmap': False})."
            )


_Function = tuple[str, str]


def _check_functions(proto: onnx.ModelProto, limits: ModelLimits) -> None:
    """Refuse recursive functions, and calls that grow past the limit once they are inlined."""
    bodies: dict[_Function, Counter[_Function]] = {}
    for function in proto.functions:
        key = (function.domain, function.name)
        if key in bodies:
            raise InvalidModel(f"The model defines function '{function.name}' twice.")
        if function.domain in {"", "ai.onnx"}:
            raise InvalidModel(f"The model redefines the standard operator '{function.name}'.")
        bodies[key] = _calls(function.node)
    sizes: dict[_Function, int] = {}
    for key in _callees_first(bodies):
        sizes[key] = sum(sizes.get(callee, 1) * n for callee, n in bodies[key].items())
    total = sum(sizes.get(callee, 1) * n for callee, n in _calls(proto.graph.node).items())
    if total > limits.nodes:
        raise InvalidModel(f"The model has more than {limits.nodes} nodes.")


def _calls(nodes: Iterable[onnx.NodeProto]) -> Counter[_Function]:
    """Count the operators that nodes call, subgraphs included."""
    return Counter((node.domain, node.op_type) for node in _all_nodes(nodes))


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in subgraphs_of(node):
            yield from _all_nodes(graph.node)


def _callees_first(bodies: dict[_Function, Counter[_Function]]) -> list[_Function]:
    """Order functions so that each comes after those that it calls; refuse a cycle."""
    order: list[_Function] = []
    state: dict[_Function, bool] = {}  # False while it is open, True once it is in the order
    for root, body in bodies.items():
        stack = [(root, iter(body))] if root not in state else []
        state.setdefault(root, False)
        while stack:
            key, callees = stack[-1]
            callee = next((c for c in callees if c in bodies and not state.get(c)), None)
            if callee is None:
                stack.pop()
                state[key] = True
                order.append(key)
            elif callee in state:
                raise InvalidModel(f"Function '{callee[1]}' of the model calls itself.")
            else:
                state[callee] = False
                stack.append((callee, iter(bodies[callee])))
    return order


def _check_domains(proto: onnx.ModelProto) -> None:
    local = {(function.domain, function.name) for function in proto.functions}
    called = _calls(proto.graph.node)
    for function in proto.functions:
        called += _calls(function.node)
    for domain, operator in called:
        if domain not in DOMAINS and (domain, operator) not in local:
            raise InvalidModel(
                f"The model uses the custom operator '{domain}::{operator}', which needs a library"
                " that is not here. Export it with standard ONNX operators, or as a model-local"
                " function."
            )


def _check_packed_weight(node: onnx.NodeProto, weights: dict[str, list[int]]) -> None:
    """Refuse a MatMulNBits whose claimed size is not that of its packed weight.

    The weight is ``[N, blocks, block_size * bits / 8]`` with ``blocks = ceil(K / block_size)``.
    """
    claimed = {attribute.name: attribute.i for attribute in node.attribute}
    rows, columns = claimed.get("N", 0), claimed.get("K", 0)
    bits, block = claimed.get("bits", 4), claimed.get("block_size", 0)
    sound = bits in {2, 4, 8} and min(rows, columns, block) > 0
    if sound and len(node.input) > 1 and node.input[1] in weights:
        expected = [rows, -(-columns // block), block * bits // 8]
        sound = weights[node.input[1]] == expected
    if not sound:
        raise InvalidModel(
            f"MatMulNBits '{node.name}' claims a weight of N={rows}, K={columns}, bits={bits},"
            f" block_size={block}, which its data does not have."
        )
