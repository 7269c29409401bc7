"""Stores weights in few bits within the bound of the loss of quality; rounding may be learned."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import onnx_ir as ir

from app.domain.steps import Quantize
from app.domain.steps.quantize import PACKED
from workers.compression.graph.editor import constant
from workers.compression.methods.cluster.codebooks import Codebook
from workers.compression.methods.outcome import Outcome
from workers.compression.methods.quantize import quality_bound
from workers.compression.methods.quantize.block_products import BlockProducts
from workers.compression.methods.quantize.comparison import (
    few_samples,
    is_nearer,
    output_sqnr,
    went,
)
from workers.compression.methods.quantize.exclusions import Write
from workers.compression.methods.quantize.integers import Floats
from workers.compression.methods.quantize.judging import judging_of
from workers.compression.methods.quantize.kept import alike, kept_weights
from workers.compression.methods.quantize.levels import Levels
from workers.compression.methods.quantize.rounding import Rounding, is_learnable, learned_weights
from workers.compression.methods.quantize.stored import (
    Storing,
    weights_in,
)
from workers.compression.methods.weight_uses import WeightUse
from workers.compression.samples.context import Context


def store_weights(
    model: ir.Model, parameters: Quantize, context: Context, advance: Callable[[float], None]
) -> Outcome:
    """Round weights to grids that are stored in four or eight bits.

    If the job bounds the loss of quality, weights stay in float until the bound is met.
    """
    uses, _ = weights_in(model, parameters)
    names = list(dict.fromkeys(use.name for use in uses))
    write, notes = writer(model, Storing(parameters), uses, context)
    judging = judging_of(model, context.train, context)
    outcome = quality_bound.quantize_within_bound(
        write, model, names, context, advance, judging, parameters.layer_form
    )
    if not outcome.layers:
        return outcome  # notes would tell of weights that stayed as they were
    return replace(outcome, notes=[*notes, *outcome.notes])


def writer(
    model: ir.Model, storing: Storing | BlockProducts, uses: list[WeightUse], context: Context
) -> tuple[Write, list[str]]:
    """Return the function that stores weights of a graph, and notes on how they are rounded.

    Rounding is learned, and kept if the outputs come nearer. Unless the parameters ask for it, it
    is not tried with eight bits: weights alone lose next to nothing in them.

    Args:
        model: the graph; not changed.
        storing: writes weights; its parameters say whether rounding is learned.
        uses: the weights.
        context: the data.
    """
    nearest, parameters = partial(storing.write, model), storing.parameters
    wanted = parameters.learn_rounding
    if wanted is None:
        wanted = parameters.weights in PACKED
    if not wanted or not context.train or not context.has_time():
        return nearest, []
    what = ("learned", context.name_of(model), alike(parameters))
    weights = kept_weights(lambda: _learned(model, storing, uses, context), what, context)
    if not weights:
        return nearest, []
    learned = partial(replace(storing, learned=weights).write, model)
    if parameters.learn_rounding:
        return learned, [f"Layers whose rounding was learned: {len(weights)}."]
    graphs = (write({}).model for write in (nearest, learned))
    before, after = context.prices.figures(
        (*what, "ratios"), list[float], lambda: output_sqnr(model, graphs, parameters, context)
    )
    if not is_nearer(before, after):
        return nearest, []
    how = f"The rounding of {len(weights)} stored weights was learned: with all in few bits"
    return learned, [f"{how}, {went(before, after)}"]


def _learned(
    model: ir.Model, storing: Storing | BlockProducts, uses: list[WeightUse], context: Context
) -> Mapping[str, Floats]:
    """Return the weights whose rounding was learned, by the weight's name."""
    learnable = {use.name: use for use in uses if is_learnable(use.node, use.value, model)}
    layers = []
    for use in learnable.values():
        levels = storing.form(use, model)
        if isinstance(levels, Codebook):
            levels = Levels(levels.scales, levels.centres)
        layers.append(Rounding(use.node, constant(use.value), levels, data=None, centred=False))
    samples = few_samples(model, storing.parameters, context)
    rounded = learned_weights(model, layers, samples, context)
    return {learnable[name].weight: array for name, array in rounded.items()}
