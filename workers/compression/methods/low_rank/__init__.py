"""Low-rank factorisation: layers become products of thinner ones, under one global budget."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from app.domain.problems import StepFailed
from app.domain.reports import LayerChange
from app.domain.steps import LowRank, Skipped
from workers.compression.context import Context
from workers.compression.graph import shapes as graph_shapes
from workers.compression.graph import stats
from workers.compression.graph.editor import Editor
from workers.compression.methods.low_rank.candidates import Candidate, candidates
from workers.compression.methods.low_rank.decompositions import Moments
from workers.compression.methods.low_rank.layers import Layer, select
from workers.compression.methods.low_rank.moments import collect
from workers.compression.methods.low_rank.ranks import Option, spread
from workers.compression.methods.low_rank.writer import replace
from workers.compression.methods.outcome import Outcome
from workers.compression.recovery import recover


def low_rank(
    model: ir.Model, parameters: LowRank, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Factorise the layers of a graph where that saves MACs.

    Raises:
        StepFailed: the budget cannot be met, or training fails.
    """
    sizes = graph_shapes.sizes_of(model, context.example)
    layers, skipped = select(model, parameters, graph_shapes.concrete(model, sizes))
    start = 0.2 if parameters.recover else 1.0
    moments = _moments(model, layers, parameters, context, lambda done: advance(start * done))
    ways = [candidates(layer, parameters, moments.get(layer.name)) for layer in layers]
    chosen = _choose(model, layers, ways, parameters, context)
    edit, changes = Editor(model), []
    for layer, way in zip(layers, chosen, strict=True):
        if way is None:
            skipped.append(
                Skipped(node=layer.name, reason="no ranks save enough for what they lose")
            )
            continue
        shift = way.decomposition.shift(way.ranks)
        replace(edit, layer, way.decomposition.factors(way.ranks), shift)
        changes.append(_change(layer, way))
    edit.remove_unused()
    if parameters.recover is not None:
        model = recover(
            model, parameters.recover, context, lambda done: advance(start + (1 - start) * done)
        )
    return Outcome(model, changes, skipped)


def _moments(
    model: ir.Model,
    layers: Sequence[Layer],
    parameters: LowRank,
    context: Context,
    advance: Callable[[float], None],
) -> dict[str, Moments]:
    if not parameters.whiten or context.train is None or not layers:
        return {}
    samples = context.train.draw(parameters.calibration_samples, context.seed)
    return collect(model, layers, samples, context.threads, advance)


def _choose(
    model: ir.Model,
    layers: Sequence[Layer],
    ways: Sequence[Sequence[Candidate]],
    parameters: LowRank,
    context: Context,
) -> list[Candidate | None]:
    """Choose a candidate for each layer; None leaves it as it is."""
    if parameters.energy is not None or parameters.rank != "ratio":
        return [min(each, key=lambda c: c.macs, default=None) for each in ways]
    figures = stats.measure(model, graph_shapes.sizes_of(model, context.example), context.example)
    by_macs = parameters.of == "macs"
    whole = figures.macs if by_macs else figures.parameters
    own = [layer.macs if by_macs else layer.weight.size for layer in layers]
    options = [
        [Option(cost, 0.0), *(Option(c.macs if by_macs else c.parameters, c.error) for c in each)]
        for cost, each in zip(own, ways, strict=True)
    ]
    fixed = whole - sum(own)
    picks = spread(options, (1 - parameters.ratio) * whole - fixed)
    if picks is None:
        least = fixed + sum(min(option.cost for option in each) for each in options)
        raise StepFailed(
            f"Low rank removes at most {1 - least / whole:.0%} of the {parameters.of} here, not"
            f" {parameters.ratio:.0%}: ask for a lower 'ratio', or prune as well."
        )
    return [None if pick == 0 else each[pick - 1] for pick, each in zip(picks, ways, strict=True)]


def _change(layer: Layer, way: Candidate) -> LayerChange:
    at = "×".join(str(rank) for rank in way.ranks)
    return LayerChange(
        node=layer.name,
        operator=layer.node.op_type,
        change=f"{way.decomposition.name}, rank {at}: {layer.macs:,} → {way.macs:,} MACs",
        bytes_before=layer.weight.nbytes,
        bytes_after=4 * way.parameters,
        sqnr_db=None if way.error <= 0 else round(float(-10 * np.log10(way.error)), 2),
    )
