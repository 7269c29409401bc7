"""Weight clustering: the elements of a weight share a few values, and the graph stores indices.

See ``codebooks`` for the form; codebooks may be trained.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from workers.compression.graph.operators import (
    channel_axis,
    holds_unknown_weights,
    operand,
    operator_of,
)
from workers.compression.learning.recovery import Demands, recover
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.cluster.codebooks import Codebook, codebook_of, write_codebook
from workers.compression.methods.outcome import Outcome
from workers.compression.progress import span
from workers.compression.samples.context import Context


@dataclass(frozen=True)
class _ClusteredWeight:
    """A weight with its codebook."""

    node: ir.Node
    weight: ir.Value
    codebook: Codebook
    indices: NDArray[np.uint8]
    """The index of each element's value; the weight's shape."""


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
    codebooks = [
        write_codebook(edit, item.weight, item.codebook, item.indices) for item in clustered
    ]
    changes = [_change(model, item) for item in clustered]
    edit.remove_unused()
    if parameters.recover is not None:
        zeros = [
            name
            for name, item in zip(codebooks, clustered, strict=True)
            if 0.0 in item.codebook.centres
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
    codebook = codebook_of(array, channel_axis(node), clusters)
    return _ClusteredWeight(node, weight, codebook, codebook.indices(array))


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


def _change(model: ir.Model, clustered: _ClusteredWeight) -> LayerChange:
    array, codebook = constant(clustered.weight), clustered.codebook
    count, bits = len(codebook.centres), codebook.index_bits(model)
    return LayerChange(
        node=str(clustered.node.name),
        operator=clustered.node.op_type,
        change=f"{stored_as(model, array)} → {count} shared values, indices of {bits} bits",
        bytes_before=bytes_in_file(model, array),
        bytes_after=codebook.nbytes(array.size, bits),
        sqnr_db=sqnr_db(array, codebook.values(clustered.indices)),
    )
