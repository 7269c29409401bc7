"""Weight clustering: the elements of a weight share a few values, and the graph stores indices.

``Mul(Gather(codebook, Cast(indices)), scales)`` replaces a weight. BatchNorm is folded into
exported networks, so their channels differ by orders of magnitude: each output channel is divided
by its root mean square before the values are clustered. An index takes four bits for up to sixteen
values, else eight. Runtimes compute the weight once, when they load the graph: the file is smaller,
and the speed does not change.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from app.domain.reports import LayerChange
from app.domain.steps import Cluster, Skipped, matches
from app.domain.steps.cluster import LEAST_WEIGHTS
from workers.compression.executor import Executor
from workers.compression.graph.editor import Editor, constant
from workers.compression.graph.forms import has_four_bits
from workers.compression.graph.narrow import bytes_in_file, stored_as
from workers.compression.graph.operators import (
    channel_axis,
    holds_unknown_weights,
    operand,
    operator_of,
)
from workers.compression.learning.recovery import LEAST_ZEROS, Demands, recover
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.cluster.kmeans import codebook, nearest
from workers.compression.methods.outcome import Outcome
from workers.compression.progress import span
from workers.compression.samples.context import Context

_FOUR_BITS = 16


@dataclass(frozen=True)
class _ClusteredWeight:
    """A weight as a codebook, indices and scales."""

    node: ir.Node
    weight: ir.Value
    centres: NDArray[np.float32]
    """``[clusters]``, sorted."""
    indices: NDArray[np.uint8]
    """The index of each element's value; the weight's shape."""
    scales: NDArray[np.float32]
    """The scale of each output channel, in a shape that broadcasts to the weight."""

    @property
    def values(self) -> NDArray[np.float32]:
        """The clustered weight."""
        return self.centres[self.indices] * self.scales


def cluster(
    model: ir.Model, parameters: Cluster, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Cluster the elements of each weight; train the codebooks where the step asks for it."""
    chosen, skipped = _select(model, parameters)
    if not chosen:
        return Outcome(model, skipped=skipped)
    edit, clustered = Editor(model), []
    for done, (node, weight) in enumerate(chosen):
        clustered.append(_clustered(node, weight, parameters.clusters))
        advance((done + 1) / len(chosen) / (4 if parameters.recover else 1))
    codebooks = [_write(edit, item) for item in clustered]
    changes = [_change(model, item) for item in clustered]
    edit.remove_unused()
    if parameters.recover is not None:
        zeros = [
            name for name, item in zip(codebooks, clustered, strict=True) if 0.0 in item.centres
        ]
        model = recover(
            model,
            parameters.recover,
            context,
            span(advance, 0.25, 1),
            Demands(constrain=_Zeros(model, zeros)),
        )
    return Outcome(model, changes, skipped)


def _select(
    model: ir.Model, parameters: Cluster
) -> tuple[list[tuple[ir.Node, ir.Value]], list[Skipped]]:
    """Return the weights to cluster, each with the first node that reads it, and the refusals."""
    chosen: dict[ir.Value, ir.Node] = {}
    skipped = []
    for node in model.graph.all_nodes():
        if holds_unknown_weights(node):
            left = f"weights of {node.op_type} are not clustered"
            skipped.append(Skipped(node=str(node.name), reason=left))
        operator = operator_of(node)
        slots = operator.weights if operator else ()
        for value in (operand(node, slot) for slot in slots):
            if value is None or not value.is_initializer() or value in chosen:
                continue
            if reason := _unfit(node, value, model, parameters):
                skipped.append(Skipped(node=str(node.name), reason=reason))
            else:
                chosen[value] = node
    return [(node, value) for value, node in chosen.items()], skipped


def _unfit(node: ir.Node, value: ir.Value, model: ir.Model, parameters: Cluster) -> str | None:
    if matches(str(node.name), parameters.ignore):
        return "named in 'ignore'"
    if value.graph is not model.graph or value.is_graph_output():
        return "its weight is an output of the graph, or of a branch or loop in it"
    if value.dtype != ir.DataType.FLOAT:
        return f"its weight is {value.dtype}, not float32"
    array = constant(value)
    if array.size < LEAST_WEIGHTS:
        return f"it has {array.size} weights: a codebook would save nothing"
    return None if np.isfinite(array).all() else "its weights are not all finite"


def _clustered(node: ir.Node, weight: ir.Value, clusters: int) -> _ClusteredWeight:
    array = constant(weight)
    scales = _scales(array, channel_axis(node))
    normalized = array / scales
    sparse = np.count_nonzero(array == 0) >= LEAST_ZEROS * array.size
    centres = codebook(normalized, clusters, zero=bool(sparse))  # zeros get a value of their own
    return _ClusteredWeight(node, weight, centres, nearest(normalized, centres), scales)


def _scales(array: NDArray[np.float32], axis: int | None) -> NDArray[np.float32]:
    """Return the root mean square of each channel; 1 for a channel of zeros."""
    if axis is None or array.ndim < 2:
        return np.ones((1,) * array.ndim, np.float32)
    other_axes = tuple(a for a in range(array.ndim) if a != axis % array.ndim)
    scales: NDArray[np.float32] = np.sqrt(np.mean(array**2, axis=other_axes, keepdims=True))
    return np.where(scales > 0, scales, np.float32(1))


def _write(edit: Editor, clustered: _ClusteredWeight) -> str:
    """Replace the weight by the look-up; return the name of the codebook."""
    name = str(clustered.weight.name)
    narrow = _index_bits(edit.model, clustered) == 4
    indices = clustered.indices.astype(ml_dtypes.uint4) if narrow else clustered.indices
    codebook = edit.constant(f"{name}_codebook", clustered.centres)
    packed = edit.constant(f"{name}_indices", indices)
    cast = edit.node("Cast", [packed], f"{name}_positions", to=ir.DataType.INT32)
    gather = edit.node("Gather", [codebook, cast.outputs[0]], f"{name}_shared", axis=0)
    scales = edit.constant(f"{name}_scales", clustered.scales)
    scaled = edit.node("Mul", [gather.outputs[0], scales], f"{name}_scaled")
    value = scaled.outputs[0]
    value.shape, value.type = clustered.weight.shape, clustered.weight.type
    edit.graph.insert_before(edit.graph[0], [cast, gather, scaled])
    ir.convenience.replace_all_uses_with(clustered.weight, value)
    return str(codebook.name)


class _Zeros:
    """A training constraint: the zeros of codebooks stay zero."""

    def __init__(self, model: ir.Model, codebooks: Sequence[str]) -> None:
        initializers = model.graph.initializers
        self._zeros = {name: constant(initializers[name]) == 0 for name in codebooks}

    def __call__(self, executor: Executor, _done: float) -> None:
        """Set the elements that were zero to zero again."""
        for name, zero in self._zeros.items():
            weight = executor.weight(name)
            weight.data[torch.from_numpy(zero).to(weight.device)] = 0.0


def _index_bits(model: ir.Model, clustered: _ClusteredWeight) -> int:
    """Return the bits of an index; graphs that stay at an older opset have no type of four."""
    return 4 if has_four_bits(model) and len(clustered.centres) <= _FOUR_BITS else 8


def _change(model: ir.Model, clustered: _ClusteredWeight) -> LayerChange:
    array = constant(clustered.weight)
    count = len(clustered.centres)
    bits = _index_bits(model, clustered)
    return LayerChange(
        node=str(clustered.node.name),
        operator=clustered.node.op_type,
        change=f"{stored_as(model, array)} → {count} shared values, indices of {bits} bits",
        bytes_before=bytes_in_file(model, array),
        bytes_after=(array.size * bits + 7) // 8
        + clustered.centres.nbytes
        + clustered.scales.nbytes,
        sqnr_db=sqnr_db(array, clustered.values),
    )
