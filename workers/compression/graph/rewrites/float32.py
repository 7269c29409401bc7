"""Make a graph compute in float32, whatever type the upload computes in."""

import onnx_ir as ir

from workers.compression.graph.inference import infer
from workers.compression.graph.narrow import bytes_by_type, mark_as_before
from workers.compression.graph.operators import operator_of
from workers.compression.graph.precision import Change, fits, retype

_OTHERS = Change(
    frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}), ir.DataType.FLOAT
)


def compute_in_float32(model: ir.Model) -> int:
    """Make a graph in float16, bfloat16 or float64 compute in float32.

    1. Inputs and outputs keep their types: a Cast stands at each.
    2. Weights are float32 in memory. Half-precision weights stay stored in half: see ``narrow``.
    3. Nodes between a float64 input and the first weight stay in float64: the input may be
       timestamps, which float32 resolves only to minutes.
    """
    if not _has_others(model):
        return 0
    infer(model)
    preparing = _preparing(model)
    changed = [
        node
        for node in model.graph.all_nodes()
        if node not in preparing
        and fits(node, _OTHERS, model.graph.opset_imports.get(node.domain, 1))
    ]
    if not changed:
        return 0
    sizes = bytes_by_type(model)
    retype(model, _OTHERS, preparing)
    mark_as_before(model, sizes)
    return len(changed)


def _has_others(model: ir.Model) -> bool:
    """Return whether inputs, constants or attributes have another float type."""
    values = (v for graph in model.graphs() for v in (*graph.inputs, *graph.initializers.values()))
    return any(value.dtype in _OTHERS.sources for value in values) or any(
        _is_other(attribute)
        for node in model.graph.all_nodes()
        for attribute in node.attributes.values()
    )


def _is_other(attribute: ir.Attr) -> bool:
    if attribute.is_ref():
        return True
    if attribute.type == ir.AttributeType.TENSOR:
        return attribute.as_tensor().dtype in _OTHERS.sources
    named = attribute.name in {"to", "dtype", "output_dtype", "stash_type", "output_datatype"}
    return named and attribute.value in {dtype.value for dtype in _OTHERS.sources}


def _preparing(model: ir.Model) -> set[ir.Node]:
    """Return the nodes between float64 inputs and the first weights."""
    early = {value for value in model.graph.inputs if value.dtype == ir.DataType.DOUBLE}
    preparing = set()
    for node in model.graph:
        doubles = [v for v in node.inputs if v is not None and v.dtype == ir.DataType.DOUBLE]
        all_early = all(value in early or value.is_initializer() for value in doubles)
        if all_early and early.intersection(doubles) and operator_of(node) is None:
            preparing.add(node)
            early.update(v for v in node.outputs if v.dtype == ir.DataType.DOUBLE)
    return preparing
