"""Weight sharing: each weight becomes one of a few values, and the graph stores which.

``Mul(Gather(codebook, Cast(indices)), scales)`` takes the place of a weight: channels of exported
networks differ by orders of magnitude, as BatchNorm is folded into them, so the values are shared
by what is left when each output channel is divided by its root mean square. Indices take four bits
where sixteen values are enough, eight otherwise. Runtimes compute the weight once, when they load
the graph: the file is smaller, the speed is that of the weight itself.
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
from workers.compression.graph.narrow import bytes_in_file, stored_as
from workers.compression.graph.operators import channel_axis, operand, operator_of
from workers.compression.learning.recovery import LEAST_ZEROS, Demands, recover
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.cluster.kmeans import codebook, nearest
from workers.compression.methods.outcome import Outcome
from workers.compression.samples.context import Context

_FOUR_BITS = 16


@dataclass(frozen=True)
class _Shared:
    """A weight, as a codebook and indices."""

    node: ir.Node
    weight: ir.Value
    centres: NDArray[np.float32]
    """``[clusters]``, sorted."""
    indices: NDArray[np.uint8]
    """In the weight's shape."""
    scales: NDArray[np.float32]
    """Of the output channels, in a shape that multiplies the weight."""

    @property
    def values(self) -> NDArray[np.float32]:
        """The weight that is left."""
        return self.centres[self.indices] * self.scales


def cluster(
    model: ir.Model, parameters: Cluster, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Let the weights of each tensor share a few values; train these where asked to."""
    chosen, skipped = _select(model, parameters)
    if not chosen:
        return Outcome(model, skipped=skipped)
    edit, found = Editor(model), []
    for done, (node, weight) in enumerate(chosen):
        found.append(_share(node, weight, parameters.clusters))
        advance((done + 1) / len(chosen) / (4 if parameters.recover else 1))
    books = [_write(edit, shared) for shared in found]
    changes = [_change(model, shared) for shared in found]
    edit.remove_unused()
    if parameters.recover is not None:
        zeros = [name for name, shared in zip(books, found, strict=True) if 0.0 in shared.centres]
        model = recover(
            model,
            parameters.recover,
            context,
            lambda fraction: advance(0.25 + 0.75 * fraction),
            Demands(constrain=_Zeros(model, zeros)),
        )
    return Outcome(model, changes, skipped)


def _select(
    model: ir.Model, parameters: Cluster
) -> tuple[list[tuple[ir.Node, ir.Value]], list[Skipped]]:
    """Return weights with the first node that reads each, and what is left alone."""
    chosen: dict[ir.Value, ir.Node] = {}
    skipped = []
    for node in model.graph.all_nodes():
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


def _share(node: ir.Node, weight: ir.Value, clusters: int) -> _Shared:
    array = constant(weight)
    scales = _scales(array, channel_axis(node))
    even = array / scales
    sparse = np.count_nonzero(array == 0) >= LEAST_ZEROS * array.size
    centres = codebook(even, clusters, zero=bool(sparse))  # zeros get a value of their own
    return _Shared(node, weight, centres, nearest(even, centres), scales)


def _scales(array: NDArray[np.float32], axis: int | None) -> NDArray[np.float32]:
    """Return the root mean square of each channel, ones for channels of zeros."""
    if axis is None or array.ndim < 2:
        return np.ones((1,) * array.ndim, np.float32)
    others = tuple(a for a in range(array.ndim) if a != axis % array.ndim)
    scales: NDArray[np.float32] = np.sqrt(np.mean(array**2, axis=others, keepdims=True))
    return np.where(scales > 0, scales, np.float32(1))


def _write(edit: Editor, shared: _Shared) -> str:
    """Put the look-up in the weight's place and return the codebook's name."""
    name = str(shared.weight.name)
    few = len(shared.centres) <= _FOUR_BITS
    indices = shared.indices.astype(ml_dtypes.uint4) if few else shared.indices
    book = edit.constant(f"{name}_codebook", shared.centres)
    stored = edit.constant(f"{name}_indices", indices)
    cast = edit.node("Cast", [stored], f"{name}_positions", to=ir.DataType.INT32)
    look = edit.node("Gather", [book, cast.outputs[0]], f"{name}_shared", axis=0)
    scales = edit.constant(f"{name}_scales", shared.scales)
    scaled = edit.node("Mul", [look.outputs[0], scales], f"{name}_scaled")
    value = scaled.outputs[0]
    value.shape, value.type = shared.weight.shape, shared.weight.type
    edit.graph.insert_before(edit.graph[0], [cast, look, scaled])
    ir.convenience.replace_all_uses_with(shared.weight, value)
    return str(book.name)


class _Zeros:
    """Keeps the zeros of codebooks zero while they are trained."""

    def __init__(self, model: ir.Model, books: Sequence[str]) -> None:
        initializers = model.graph.initializers
        self._zeros = {name: constant(initializers[name]) == 0 for name in books}

    def __call__(self, executor: Executor, _done: float) -> None:
        """Set them back."""
        for name, zero in self._zeros.items():
            weight = executor.weight(name)
            weight.data[torch.from_numpy(zero).to(weight.device)] = 0.0


def _change(model: ir.Model, shared: _Shared) -> LayerChange:
    array = constant(shared.weight)
    count = len(shared.centres)
    bits = 4 if count <= _FOUR_BITS else 8
    return LayerChange(
        node=str(shared.node.name),
        operator=shared.node.op_type,
        change=f"{stored_as(model, array)} → {count} shared values, indices of {bits} bits",
        bytes_before=bytes_in_file(model, array),
        bytes_after=(array.size * bits + 7) // 8 + shared.centres.nbytes + shared.scales.nbytes,
        sqnr_db=sqnr_db(array, shared.values),
    )
