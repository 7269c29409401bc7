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
from app.domain.steps import Cluster, matches
from app.domain.steps.cluster import LEAST_WEIGHTS
from workers.compression.executor import Executor
from workers.compression.graph.editor import Editor, constant
from workers.compression.graph.narrow import bytes_in_file, stored_as
from workers.compression.graph.operators import channel_axis
from workers.compression.learning.recovery import Demands, recover
from workers.compression.measure.fidelity import sqnr_db
from workers.compression.methods.cluster.codebooks import Codebook, codebook_of, write_codebook
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.weight_uses import WeightUse, unfit_weight, weight_uses
from workers.compression.progress import span
from workers.compression.samples.context import Context


@dataclass(frozen=True)
class _ClusteredWeight:
    """A weight with its codebook."""

    use: WeightUse
    codebook: Codebook
    indices: NDArray[np.uint8]
    """The index of each element's value; the weight's shape."""


def cluster(
    model: ir.Model, parameters: Cluster, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Cluster the elements of each weight; train the codebooks where the step asks for it."""
    chosen, skipped = weight_uses(
        model, lambda use: _unfit(use, model, parameters), "not clustered"
    )
    if not chosen:
        return Outcome(model, skipped=skipped)
    edit, clustered = Editor(model), []
    for done, use in enumerate(chosen):
        clustered.append(_clustered(use, parameters.clusters))
        advance((done + 1) / len(chosen) / (4 if parameters.recover else 1))
    codebooks = [
        write_codebook(edit, item.use.value, item.codebook, item.indices) for item in clustered
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


def _unfit(use: WeightUse, model: ir.Model, parameters: Cluster) -> str | None:
    """Return why a weight is not clustered; None if it can be."""
    if matches(use.name, parameters.ignore):
        return "named in 'ignore'"
    if (reason := unfit_weight(use, model)) is not None:
        return reason
    size = constant(use.value).size
    few = f"it has {size} weights: a codebook would save nothing"
    return few if size < LEAST_WEIGHTS else None


def _clustered(use: WeightUse, clusters: int) -> _ClusteredWeight:
    array = constant(use.value)
    codebook = codebook_of(array, channel_axis(use.node), clusters)
    return _ClusteredWeight(use, codebook, codebook.indices(array))


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
    array, codebook = constant(clustered.use.value), clustered.codebook
    count, bits = len(codebook.centres), codebook.index_bits(model)
    return LayerChange(
        node=clustered.use.name,
        operator=clustered.use.node.op_type,
        change=f"{stored_as(model, array)} → {count} shared values, indices of {bits} bits",
        bytes_before=bytes_in_file(model, array),
        bytes_after=codebook.nbytes(array.size, bits),
        sqnr_db=sqnr_db(array, codebook.values(clustered.indices)),
    )
