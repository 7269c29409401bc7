"""Low-rank factorisation: layers become products of thinner ones, under one global budget."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from app.domain.problems import InvalidModel, StepFailed
from app.domain.reports import LayerChange
from app.domain.steps import LowRank, Skipped
from workers.compression.graph import shapes as graph_shapes
from workers.compression.graph.narrow import bytes_in_file
from workers.compression.learning.recovery import recover
from workers.compression.methods.low_rank import budget, sensitivity
from workers.compression.methods.low_rank.candidates import (
    Candidate,
    CandidatesOfLayers,
    candidates,
)
from workers.compression.methods.low_rank.decompositions import ChannelMoments, Factor
from workers.compression.methods.low_rank.layers import LowRankLayer, select
from workers.compression.methods.low_rank.moments import collect
from workers.compression.methods.outcome import Outcome
from workers.compression.progress import span
from workers.compression.samples.context import Context

_USELESS = "no ranks save enough for what they lose"


def low_rank(
    model: ir.Model, parameters: LowRank, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Factorise the layers of a graph where that saves MACs.

    Returns:
        As much as layers can give, where that is less than the ratio. The graph as it is, and not
        trained, where no layer can be replaced.

    Raises:
        StepFailed: the sensitivities that the step asks for cannot be computed, or training fails.
    """
    shapes = graph_shapes.of_run(model, context.example)
    layers, skipped = select(model, parameters, shapes, context.layout.size)
    start = 0.2 if parameters.recover else 1.0
    half = start / 2
    moments = _moments(model, layers, parameters, context, span(advance, 0, half))
    all_candidates = [candidates(layer, parameters, moments.get(layer.name)) for layer in layers]
    if not any(all_candidates):
        unprofitable = [Skipped(node=layer.name, reason=_USELESS) for layer in layers]
        return Outcome(model, skipped=[*skipped, *unprofitable])
    candidates_of_layers = _weighed(
        model, layers, all_candidates, parameters, context, span(advance, half, start)
    )
    chosen, shortfalls = budget.choose(model, layers, candidates_of_layers, parameters, context)
    skipped += shortfalls
    pairs = list(zip(layers, chosen, strict=True))
    skipped += [
        Skipped(node=layer.name, reason=_USELESS) for layer, candidate in pairs if candidate is None
    ]
    if not any(chosen):
        return Outcome(model, skipped=skipped)
    written = budget.write(model, layers, chosen)
    changes = [
        _change(model, layer, candidate, written[layer.name])
        for layer, candidate in pairs
        if candidate is not None
    ]
    if parameters.recover is not None:
        model = recover(model, parameters.recover, context, span(advance, start, 1))
    return Outcome(model, changes, skipped)


def _moments(
    model: ir.Model,
    layers: Sequence[LowRankLayer],
    parameters: LowRank,
    context: Context,
    advance: Callable[[float], None],
) -> dict[str, ChannelMoments]:
    if not parameters.whiten or not context.train or not layers:
        return {}
    samples = context.train.draw(parameters.calibration_samples, context.seed)
    return collect(model, layers, samples, context.threads, advance)


def _weighed(
    model: ir.Model,
    layers: Sequence[LowRankLayer],
    candidates_of_layers: CandidatesOfLayers,
    parameters: LowRank,
    context: Context,
    advance: Callable[[float], None],
) -> CandidatesOfLayers:
    """Return the candidates with the error that they cause in the graph's outputs as their loss.

    Without data or gradients, and where ranks do not depend on that error, the candidates keep the
    errors of the layers' outputs.

    Raises:
        StepFailed: the step ranks by sensitivity, which cannot be computed.
    """
    if not parameters.has_budget or parameters.rank == "ratio" or not any(candidates_of_layers):
        return candidates_of_layers
    required = parameters.rank == "sensitivity"
    if not context.train:
        if required:
            raise StepFailed(
                "Sensitivity looks at data: name a dataset, or choose 'rank': 'ratio'."
            )
        return candidates_of_layers
    samples = context.train.draw(parameters.calibration_samples, context.seed)
    try:
        return sensitivity.weighed(model, layers, candidates_of_layers, samples, context, advance)
    except (StepFailed, InvalidModel):
        if required:
            raise
        return candidates_of_layers


def _change(
    model: ir.Model, layer: LowRankLayer, candidate: Candidate, factors: Sequence[Factor]
) -> LayerChange:
    name = candidate.decomposition.name
    ranks = "×".join(str(rank) for rank in candidate.ranks)
    return LayerChange(
        node=layer.name,
        operator=layer.node.op_type,
        change=f"{name}, rank {ranks}: {layer.macs:,} → {candidate.macs:,} MACs",
        bytes_before=bytes_in_file(model, layer.weight),
        bytes_after=bytes_in_file(model, *(factor.weight for factor in factors)),
        sqnr_db=None if candidate.error <= 0 else round(float(-10 * np.log10(candidate.error)), 2),
    )
