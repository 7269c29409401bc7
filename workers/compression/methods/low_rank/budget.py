"""Which layers are replaced, at which ranks: what a budget of MACs, parameters or time leaves."""

import math
from collections.abc import Sequence
from dataclasses import replace as with_changes

import numpy as np
import onnx_ir as ir

from app.domain.problems import StepFailed
from app.domain.steps import LowRank
from workers.compression.graph import stats
from workers.compression.graph.editor import Editor
from workers.compression.graph.shapes import sizes_of
from workers.compression.measure.latency import of_one, of_two
from workers.compression.methods.low_rank.candidates import Candidate
from workers.compression.methods.low_rank.decompositions import Factor
from workers.compression.methods.low_rank.layers import Layer
from workers.compression.methods.low_rank.ranks import Option, spread
from workers.compression.methods.low_rank.writer import replace
from workers.compression.samples.context import Context

Ways = Sequence[Sequence[Candidate]]
Chosen = list[Candidate | None]
"""A candidate for each layer; None leaves it as it is."""

_ROUNDS = 4
"""Times that the whole graph is measured and the wish corrected."""
_CLOSE = 0.01
"""Share of the time by which the ratio may be missed."""


def choose(
    model: ir.Model,
    layers: Sequence[Layer],
    ways: Ways,
    parameters: LowRank,
    context: Context,
) -> Chosen:
    """Choose so that least is lost within the budget.

    Raises:
        StepFailed: the budget cannot be met.
    """
    if not parameters.has_budget:
        return [min(each, key=lambda c: c.macs, default=None) for each in ways]
    if parameters.of == "latency":
        return _by_time(model, layers, ways, parameters, context)
    figures = stats.measure(model, sizes_of(model, context.example), context.example)
    if parameters.of == "macs":
        costs = [[layer.macs, *(c.macs for c in each)] for layer, each in _pairs(layers, ways)]
        whole = figures.macs
    else:
        costs = [
            [layer.weight.size, *(c.parameters for c in each)]
            for layer, each in _pairs(layers, ways)
        ]
        whole = figures.parameters
    return _within(costs, ways, whole, parameters.ratio, parameters)


def write(model: ir.Model, layers: Sequence[Layer], chosen: Chosen) -> None:
    """Put the chosen chains into a graph that holds nodes of the layers' names."""
    nodes, edit = {node.name: node for node in model.graph}, Editor(model)
    for layer, way in zip(layers, chosen, strict=True):
        if way is not None:
            own = with_changes(layer, node=nodes[layer.name])
            factors = way.decomposition.factors(way.ranks)
            replace(edit, own, factors, way.decomposition.shift(way.ranks))
    edit.remove_unused()


def _pairs(layers: Sequence[Layer], ways: Ways) -> Sequence[tuple[Layer, Sequence[Candidate]]]:
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
    layers: Sequence[Layer],
    ways: Ways,
    parameters: LowRank,
    context: Context,
) -> Chosen:
    """Spread a budget of time; what single layers promise is corrected on the whole graph."""
    clock = _Clock(context.threads)
    own = [clock.time(layer, None) for layer in layers]
    faster = [
        [(way, took) for way in each if (took := clock.time(layer, way)) < before]
        for layer, each, before in zip(layers, ways, own, strict=True)
    ]
    costs = [
        [before, *(took for _, took in each)] for before, each in zip(own, faster, strict=True)
    ]
    kept = [[way for way, _ in each] for each in faster]
    whole, _ = of_two(model, model, context.example, context.threads)
    wish, best = parameters.ratio, list[tuple[float, Chosen]]()
    for _ in range(_ROUNDS):
        try:
            chosen = _within(costs, kept, max(whole, sum(own)), wish, parameters)
        except StepFailed:
            if not best:
                raise
            break
        smaller = model.clone()
        write(smaller, layers, chosen)
        before, after = of_two(model, smaller, context.example, context.threads)
        saved = 1 - after / before
        context.tell("latency_saved", saved, None)
        best.append((saved, chosen))
        if saved >= parameters.ratio - _CLOSE:
            break
        wish = min(0.98, wish + parameters.ratio - saved)
    return max(best, key=lambda each: each[0])[1]


class _Clock:
    """Times layers by themselves, each form of each once."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._seen: dict[object, float] = {}

    def time(self, layer: Layer, way: Candidate | None) -> float:
        """Return the milliseconds of a layer, as it is or factorised."""
        factors = None if way is None else way.decomposition.factors(way.ranks)
        shapes = None if factors is None else tuple((f.weight.shape, f.axes) for f in factors)
        attributes = tuple(sorted(str(a) for a in layer.node.attributes.values()))
        key = (layer.node.op_type, attributes, layer.before, layer.weight.shape, shapes)
        if key not in self._seen:
            self._seen[key] = self._measure(layer, factors)
        return self._seen[key]

    def _measure(self, layer: Layer, factors: Sequence[Factor] | None) -> float:
        model, shape = _alone(layer)
        if factors is not None:
            replace(Editor(model), with_changes(layer, node=model.graph[0]), factors, None)
        feeds = {"data": np.random.default_rng(0).standard_normal(shape, np.float32)}
        return of_one(model, feeds, self._threads)


def _alone(layer: Layer) -> tuple[ir.Model, tuple[int, ...]]:
    """Return a graph of one layer with one sample as input, and the input's shape."""
    node, channels = layer.node, layer.weight.shape[1]
    conv = node.op_type == "Conv"
    shape = (1, channels, *layer.before) if conv else (*layer.before, channels)
    data = ir.Value(name="data", shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
    constants = [
        ir.Value(name=value.name, const_value=value.const_value, shape=value.shape, type=value.type)
        for value in node.inputs[1:]
        if value is not None
    ]
    own = ir.Node(
        "", node.op_type, [data, *constants], list(node.attributes.values()),
        num_outputs=1, name=node.name,
    )  # fmt: skip
    own.outputs[0].name, own.outputs[0].type = "given", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [data], own.outputs, nodes=[own], initializers=constants, opset_imports={"": 21},
        name="layer",
    )  # fmt: skip
    return ir.Model(graph, ir_version=10), shape
