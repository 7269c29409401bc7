"""Which layers are replaced, at which ranks: what a budget of MACs, parameters or time leaves."""

import math
from collections.abc import Sequence
from dataclasses import replace as with_changes
from typing import assert_never

import onnx_ir as ir

from app.domain.problems import StepFailed
from app.domain.steps import LowRank, Skipped
from workers.compression.graph import stats
from workers.compression.graph.editor import Editor
from workers.compression.graph.shapes import sizes_of
from workers.compression.measure.clock import LayerTimes, Shape, alone, shortest
from workers.compression.methods.low_rank.candidates import Candidate
from workers.compression.methods.low_rank.decompositions import Factor
from workers.compression.methods.low_rank.layers import LowRankLayer
from workers.compression.methods.low_rank.ranks import Option, spread
from workers.compression.methods.low_rank.writer import replace
from workers.compression.methods.saving import reach, shortfall
from workers.compression.samples.context import Context, Feeds

Ways = Sequence[Sequence[Candidate]]
Chosen = list[Candidate | None]
"""A candidate for each layer; None leaves it as it is."""


def choose(
    model: ir.Model,
    layers: Sequence[LowRankLayer],
    ways: Ways,
    parameters: LowRank,
    context: Context,
) -> tuple[Chosen, list[Skipped]]:
    """Choose so that least is lost within the budget; say so where less time is saved.

    Raises:
        StepFailed: the budget cannot be met.
    """
    if not parameters.has_budget:
        return [min(each, key=lambda c: c.macs, default=None) for each in ways], []
    if parameters.of == "latency":
        return _by_time(model, layers, ways, parameters, context)
    sizes = sizes_of(model, context.example)
    figures = stats.measure(model, sizes, context.example, context.layout.size)
    match parameters.of:
        case "macs":
            costs = [[layer.macs, *(c.macs for c in each)] for layer, each in _pairs(layers, ways)]
            whole = figures.macs
        case "parameters" | "size":
            costs = [
                [layer.weight.size, *(c.parameters for c in each)]
                for layer, each in _pairs(layers, ways)
            ]
            whole = figures.parameters
        case of:
            assert_never(of)
    return _within(costs, ways, whole, parameters.ratio, parameters), []


def write(
    model: ir.Model, layers: Sequence[LowRankLayer], chosen: Chosen
) -> dict[str, list[Factor]]:
    """Put the chosen chains into a graph that holds nodes of the layers' names.

    Returns:
        The factors of each layer that is replaced, by its name.
    """
    nodes, edit = {node.name: node for node in model.graph}, Editor(model)
    written = {}
    for layer, way in zip(layers, chosen, strict=True):
        if way is not None:
            own = with_changes(layer, node=nodes[layer.name])
            factors = written[layer.name] = way.decomposition.factors(way.ranks)
            replace(edit, own, factors, way.decomposition.shift(way.ranks))
    edit.remove_unused()
    return written


def _pairs(
    layers: Sequence[LowRankLayer], ways: Ways
) -> Sequence[tuple[LowRankLayer, Sequence[Candidate]]]:
    return list(zip(layers, ways, strict=True))


def _within(
    costs: Sequence[Sequence[float]],
    ways: Ways,
    whole: float,
    ratio: float,
    parameters: LowRank,
) -> Chosen:
    """Spread a budget; the first cost of a layer is its own."""
    options = [
        [Option(own, 0.0), *(Option(c, w.loss) for c, w in zip(rest, each, strict=True))]
        for (own, *rest), each in zip(costs, ways, strict=True)
    ]
    fixed = whole - sum(each[0].cost for each in options)
    picks = spread(options, (1 - ratio) * whole - fixed)
    if picks is None:
        least = fixed + sum(min(option.cost for option in each) for each in options)
        most = math.floor(1000 * (1 - least / whole)) / 1000 if whole else 0.0
        raise StepFailed(
            f"Low rank removes at most {most:.1%} of the {parameters.of} here, not"
            f" {parameters.ratio:.1%}: ask for a lower 'ratio', or prune as well."
        )
    return [None if pick == 0 else each[pick - 1] for pick, each in zip(picks, ways, strict=True)]


def _by_time(
    model: ir.Model,
    layers: Sequence[LowRankLayer],
    ways: Ways,
    parameters: LowRank,
    context: Context,
) -> tuple[Chosen, list[Skipped]]:
    """Spread a budget of time; what single layers promise is corrected on the whole graph."""
    times = LayerTimes(context.threads)
    own = [_time(layer, None, times) for layer in layers]
    faster = [
        [(way, took) for way in each if (took := _time(layer, way, times)) < before]
        for layer, each, before in zip(layers, ways, own, strict=True)
    ]
    costs = [
        [before, *(took for _, took in each)] for before, each in zip(own, faster, strict=True)
    ]
    kept = [[way for way, _ in each] for each in faster]
    whole = max(shortest(model, context.example, context.threads), sum(own))
    tried: list[Chosen] = []

    def attempt(wish: float) -> tuple[Chosen, ir.Model] | None:
        try:
            chosen = _within(costs, kept, whole, wish, parameters)
        except StepFailed:
            if not tried:
                raise
            return None
        if any(all(a is b for a, b in zip(chosen, old, strict=True)) for old in tried):
            return None
        tried.append(chosen)
        smaller = model.clone()
        write(smaller, layers, chosen)
        return chosen, smaller

    chosen, gone = reach(model, parameters.ratio, attempt, context.example, context)
    return chosen, shortfall(parameters.ratio, "latency", gone)


def _time(layer: LowRankLayer, way: Candidate | None, times: LayerTimes) -> float:
    """Return the milliseconds of a layer by itself, as it is or factorised."""
    factors = None if way is None else way.decomposition.factors(way.ranks)
    shapes = None if factors is None else tuple((f.weight.shape, f.axes) for f in factors)
    attributes = tuple(sorted(str(a) for a in layer.node.attributes.values()))

    def make() -> tuple[ir.Model, Feeds]:
        model, feeds = alone(layer.node, _shapes(layer))
        if factors is not None:
            node = model.graph[0]
            replace(Editor(model), with_changes(layer, node=node), factors, None)
        return model, feeds

    form = (layer.node.op_type, attributes, layer.before, layer.weight.shape, shapes)
    return times.of(form, make)


def _shapes(layer: LowRankLayer) -> list[Shape | None]:
    """Return the shapes of what a layer reads: the data of one run, then its constants."""
    channels = layer.weight.shape[1]
    conv = layer.node.op_type == "Conv"
    data: Shape = (1, channels, *layer.before) if conv else (*layer.before, channels)
    constants = [v.shape.numpy() if v and v.shape else None for v in layer.node.inputs[1:]]
    return [data, *constants]
