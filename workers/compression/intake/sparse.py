"""Converts sparse tensors to dense ones, as nothing after the intake supports them."""

from math import prod

import numpy as np
import onnx
from onnx import numpy_helper

from app.domain.problems import InvalidModel
from workers.compression.graph import external
from workers.compression.graph.subgraphs import subgraphs_of
from workers.compression.intake.limits import MIB, ModelLimits

_BUDGET = 256 * MIB
"""Bytes that all dense forms together may take."""


def densify(proto: onnx.ModelProto, limits: ModelLimits) -> None:
    """Replace sparse initializers and sparse Constants of the main graph by dense tensors.

    Raises:
        InvalidModel: the indices are invalid, the dense form is too large, or the sparse tensor
            stands where no dense one can (subgraphs, functions, other operators).
    """
    budget = _BUDGET
    graph = proto.graph
    for sparse in graph.sparse_initializer:
        tensor, budget = _dense(sparse, budget, limits)
        graph.initializer.append(tensor)
    del graph.sparse_initializer[:]
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "sparse_value":
                tensor, budget = _dense(attribute.sparse_tensor, budget, limits)
                attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))
    _refuse_elsewhere(graph)


def _refuse_elsewhere(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise InvalidModel(
                    f"Node '{node.name or node.op_type}' holds a sparse tensor where only dense"
                    " ones are read; store it as a dense tensor."
                )
        for inner in subgraphs_of(node):
            if inner.sparse_initializer:
                raise InvalidModel("A subgraph holds a sparse initializer; make it dense.")
            _refuse_elsewhere(inner)


def _dense(
    sparse: onnx.SparseTensorProto, budget: int, limits: ModelLimits
) -> tuple[onnx.TensorProto, int]:
    """Return the dense tensor and the remaining budget."""
    name = sparse.values.name
    dims, count = list(sparse.dims), prod(sparse.values.dims)
    if any(dim < 0 for dim in dims) or prod(filter(None, dims)) > limits.elements:
        raise InvalidModel(f"Sparse tensor '{name}' has an impossible shape: {dims[:8]}.")
    if external.is_external(sparse.values) or external.is_external(sparse.indices):
        raise InvalidModel(f"Sparse tensor '{name}' is external data; store it as a dense tensor.")
    if sparse.values.data_type == onnx.TensorProto.STRING:
        raise InvalidModel(f"Sparse tensor '{name}' holds strings.")
    values = numpy_helper.to_array(sparse.values).reshape(-1)
    budget -= prod(dims) * values.dtype.itemsize
    if budget < 0:
        raise InvalidModel(f"Sparse tensor '{name}' is too large; store it as a dense tensor.")
    dense = np.zeros(dims, dtype=values.dtype)
    flat = _positions(sparse, dims, count)
    if flat.size and (flat.min() < 0 or flat.max() >= dense.size):
        raise InvalidModel(f"Sparse tensor '{name}' has indices outside of its shape.")
    dense.reshape(-1)[flat] = values
    return numpy_helper.from_array(dense, name), budget


def _positions(
    sparse: onnx.SparseTensorProto, dims: list[int], count: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the values' positions in the flattened tensor, shape ``[count]``."""
    name = sparse.values.name
    if sparse.indices.data_type != onnx.TensorProto.INT64:
        raise InvalidModel(f"Sparse tensor '{name}' has indices that are not int64.")
    indices = np.asarray(numpy_helper.to_array(sparse.indices), dtype=np.int64)
    if indices.shape == (count,):
        return indices
    if indices.shape != (count, len(dims)):
        raise InvalidModel(
            f"Sparse tensor '{name}' has {indices.shape} indices for {count} values."
        )
    if ((indices < 0) | (indices >= np.asarray(dims, dtype=np.int64))).any():
        raise InvalidModel(f"Sparse tensor '{name}' has indices outside of its shape.")
    return np.asarray(np.ravel_multi_index(tuple(indices.T), tuple(dims)), dtype=np.int64)
