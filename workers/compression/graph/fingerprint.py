"""Fingerprints of graphs: equal if two graphs compute the same, whatever their names are.

The digest of a value is computed from its producer: operator, attributes and inputs (a Merkle
tree). So names, the order of nodes, unused values, documentation and inferred shapes do not
matter.
"""

import hashlib
from collections import ChainMap
from collections.abc import MutableMapping

import onnx_ir as ir

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})

_Digests = MutableMapping[ir.Value, bytes]


def fingerprint(model: ir.Model) -> bytes:
    """Return a digest that two graphs share only if they compute alike.

    Args:
        model: sorted topologically, as ``load`` and ``save`` leave it; each weight is read once.
    """
    functions = (
        part
        for identifier, function in sorted(model.functions.items())
        for part in (repr(identifier).encode(), _graph(function, {}, depth=0))
    )
    versions = repr(sorted(model.graph.opset_imports.items())).encode()
    return _digest(versions, _graph(model.graph, {}, depth=0), *functions)


def _graph(graph: ir.Graph | ir.Function, outer: _Digests, depth: int) -> bytes:
    """Return the digest of a graph's outputs.

    Args:
        graph: of a model, a function or a node's attribute.
        outer: the digests of the values of the enclosing graphs, which it may read.
        depth: the number of enclosing graphs. Only the names of the outermost graph matter.
    """
    digests = ChainMap({}, outer)
    for place, value in enumerate(graph.inputs):
        name = str(value.name) if depth == 0 else f"{depth}.{place}"
        digests[value] = _digest(name.encode(), repr((value.dtype, value.shape)).encode())
    if isinstance(graph, ir.Graph):
        for value in graph.initializers.values():
            if value.const_value is not None and value not in digests:
                digests[value] = _tensor(value.const_value)
    for node in graph:
        node_digest = _node(node, digests, depth)
        for place, value in enumerate(node.outputs):
            digests[value] = _digest(node_digest, str(place).encode())
    names = [str(value.name).encode() for value in graph.outputs if depth == 0]
    return _digest(*names, *(_value(value, digests) for value in graph.outputs))


def _node(node: ir.Node, digests: _Digests, depth: int) -> bytes:
    attributes = (
        part
        for name, attribute in sorted(node.attributes.items())
        for part in (name.encode(), _attribute(attribute, digests, depth))
    )
    operator = repr((node.domain, node.op_type, node.overload, len(node.outputs)))
    inputs = (b"" if value is None else _value(value, digests) for value in node.inputs)
    return _digest(operator.encode(), *attributes, *inputs)


def _value(value: ir.Value, digests: _Digests) -> bytes:
    return digests.get(value) or _digest(b"unknown", str(value.name).encode())


def _attribute(attribute: ir.Attr, digests: _Digests, depth: int) -> bytes:
    kind, value = attribute.type, attribute.value
    if kind is ir.AttributeType.TENSOR:
        return _tensor(value)
    if kind is ir.AttributeType.TENSORS:
        return _digest(*map(_tensor, value))
    if kind is ir.AttributeType.GRAPH:
        return _graph(value, digests, depth + 1)
    if kind is ir.AttributeType.GRAPHS:
        return _digest(*(_graph(graph, digests, depth + 1) for graph in value))
    return repr((kind, attribute.ref_attr_name, value)).encode()


def _tensor(tensor: ir.TensorProtocol) -> bytes:
    if tensor.dtype == ir.DataType.STRING:
        content = repr(tensor.numpy().tolist()).encode()
    elif tensor.dtype in _FLOATS:
        # Zeros of either sign compute alike, and packing keeps one of them.
        content = (tensor.numpy() + tensor.dtype.numpy().type(0)).tobytes()
    else:
        content = tensor.tobytes()
    return _digest(repr((tensor.dtype, tuple(tensor.shape))).encode(), content)


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()
