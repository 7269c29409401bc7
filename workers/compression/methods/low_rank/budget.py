"""Chooses the layers to replace, and their ranks, within a budget of MACs, parameters or time."""

from collections.abc import Sequence
from dataclasses import replace as with_changes
from typing import assert_never

import onnx_ir as ir

from app.domain.steps import LowRank, Skipped
from workers.compression.graph import stats
from workers.compression.graph.editor import Editor
from workers.compression.graph.shapes import sizes_of
from workers.compression.measure.clock import LayerTimes, Shape, alone, shortest
from workers.compression.methods.low_rank.candidates import Candidate, CandidatesOfLayers
from workers.compression.methods.low_rank.decompositions import Factor
from workers.compression.methods.low_rank.layers import LowRankLayer
from workers.compression.methods.low_rank.ranks import Option, distribute
from workers.compression.methods.low_rank.writer import replace
from workers.compression.methods.saving import reach, shortfall
from workers.compression.samples.context import Context, Feeds

Chosen = list[Candidate | None]
"""The candidate that replaces each layer; None for a layer that stays as it is."""


def choose(
    model: ir.Model,
    layers: Sequence[LowRankLayer],
    candidates_of_layers: CandidatesOfLayers,
    parameters: LowRank,
    context: Context,
) -> tuple[Chosen, list[Skipped]]:
    """Choose the candidates with the least loss within the budget; beyond it, the cheapest.

    Returns:
        The chosen candidates, and a refusal where less is saved than was asked for.
    """
    if not parameters.has_budget:
        return [
            min(candidates, key=lambda c: c.macs, default=None)
            for candidates in candidates_of_layers
        ], []
    if parameters.of == "latency":
        return _by_time(model, layers, candidates_of_layers, parameters, context)
    sizes = sizes_of(model, context.example)
    figures = stats.measure(model, sizes, context.example, context.layout.size)
    match parameters.of:
        case "macs":
            costs = [
                [layer.macs, *(c.macs for c in candidates)]
                for layer, candidates in _pairs(layers, candidates_of_layers)
            ]
            total = figures.macs
        case "parameters" | "size":
            costs = [
                [layer.weight.size, *(c.parameters for c in candidates)]
                for layer, candidates in _pairs(layers, candidates_of_layers)
            ]
            total = figures.parameters
        case of:
            assert_never(of)
    chosen, saved = _within(costs, candidates_of_layers, total, parameters.ratio)
    return chosen, shortfall(parameters.ratio, parameters.of, saved)


def write(
    model: ir.Model, layers: Sequence[LowRankLayer], chosen: Chosen
) -> dict[str, list[Factor]]:
    """Replace layers of a graph by the chosen candidates.

    Args:
        model: a graph that has a node with the name of each layer; changed in place.
        layers: the layers.
        chosen: the candidate for each layer.

    Returns:
        The factors of each replaced layer, by the layer's name.
    """
    nodes, edit = {node.name: node for node in model.graph}, Editor(model)
    written = {}
    for layer, candidate in zip(layers, chosen, strict=True):
        if candidate is not None:
            layer_in_model = with_changes(layer, node=nodes[layer.name])
            factors = written[layer.name] = candidate.decomposition.factors(candidate.ranks)
            replace(edit, layer_in_model, factors, candidate.decomposition.shift(candidate.ranks))
    edit.remove_unused()
    return written


def _pairs(
    layers: Sequence[LowRankLayer], candidates_of_layers: CandidatesOfLayers
) -> Sequence[tuple[LowRankLayer, Sequence[Candidate]]]:
    return list(zip(layers, candidates_of_layers, strict=True))


def _within(
    costs: Sequence[Sequence[float]],
    candidates_of_layers: CandidatesOfLayers,
    total: float,
    ratio: float,
) -> tuple[Chosen, float]:
    """Choose candidates within a budget; the cheapest of each layer where that is exceeded.

    Args:
        costs: for each layer, the cost of the layer itself, then the cost of each candidate.
        candidates_of_layers: the candidates of each layer.
        total: the cost of the whole graph.
        ratio: the share of that cost to save.

    Returns:
        The chosen candidates, and the share of the cost that they save.
    """
    options = [
        [Option(own, 0.0), *(Option(c, w.loss) for c, w in zip(rest, candidates, strict=True))]
        for (own, *rest), candidates in zip(costs, candidates_of_layers, strict=True)
    ]
    fixed = total - sum(own for own, *_ in costs)
    picks = distribute(options, (1 - ratio) * total - fixed)
    if picks is None:
        picks = [min(range(len(each)), key=each.__getitem__) for each in costs]
    saved = sum(each[0] - each[pick] for each, pick in zip(costs, picks, strict=True))
    chosen = [
        None if pick == 0 else candidates[pick - 1]
        for pick, candidates in zip(picks, candidates_of_layers, strict=True)
    ]
    return chosen, saved / total if total else 0.0


def _by_time(
    model: ir.Model,
    layers: Sequence[LowRankLayer],
    candidates_of_layers: CandidatesOfLayers,
    parameters: LowRank,
    context: Context,
) -> tuple[Chosen, list[Skipped]]:
    """Choose candidates within a budget of time.

    The times of single layers are estimates: the choice is corrected by timing the whole graph.
    """
    times = LayerTimes(context.threads, context.known_times)
    layer_times = [time_of(layer, None, times) for layer in layers]
    faster = [
        [
            (candidate, time)
            for candidate in candidates
            if (time := time_of(layer, candidate, times)) < layer_time
        ]
        for layer, candidates, layer_time in zip(
            layers, candidates_of_layers, layer_times, strict=True
        )
    ]
    costs = [
        [layer_time, *(time for _, time in candidates)]
        for layer_time, candidates in zip(layer_times, faster, strict=True)
    ]
    faster_candidates = [[candidate for candidate, _ in candidates] for candidates in faster]
    if not any(faster_candidates):
        return [None] * len(layers), shortfall(parameters.ratio, "latency", 0.0)
    total = max(shortest(model, context.example, context.threads), sum(layer_times))
    attempts: list[Chosen] = []

    def attempt(share: float) -> tuple[Chosen, ir.Model] | None:
        choice, _ = _within(costs, faster_candidates, total, share)
        if any(all(a is b for a, b in zip(choice, earlier, strict=True)) for earlier in attempts):
            return None
        attempts.append(choice)
        smaller = model.clone()
        write(smaller, layers, choice)
        return choice, smaller

    chosen, saved = reach(model, parameters.ratio, attempt, context.example, context)
    return chosen, shortfall(parameters.ratio, "latency", saved)


def time_of(layer: LowRankLayer, candidate: Candidate | None, times: LayerTimes) -> float:
    """Return the milliseconds that a layer takes by itself, as it is or factorised."""
    factors = None if candidate is None else candidate.decomposition.factors(candidate.ranks)
    thinner = tuple((f.weight.shape, f.groups, f.axes) for f in factors or ())
    shapes = _shapes(layer)

    def make() -> tuple[ir.Model, Feeds]:
        model, feeds = alone(layer.node, shapes)
        if factors is not None:
            node = model.graph[0]
            replace(Editor(model), with_changes(layer, node=node), factors, None)
        return model, feeds

    return times.of(layer.node, shapes, make, thinner)


def _shapes(layer: LowRankLayer) -> list[Shape | None]:
    """Return the shapes of a layer's inputs: the data of one run, then the constants."""
    channels = layer.weight.shape[1]
    conv = layer.node.op_type == "Conv"
    data: Shape = (1, channels, *layer.input_sizes) if conv else (*layer.input_sizes, channels)
    constants = [v.shape.numpy() if v and v.shape else None for v in layer.node.inputs[1:]]
    return [data, *constants]
