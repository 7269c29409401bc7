"""What a chart is about: the graph, its layers, and what they take as they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from app.domain.models import Skipped
from app.domain.sensitivity import MAX_LAYERS, ChartLayer, Saved
from workers.compression.graph import stats
from workers.compression.graph.operators import is_layer, operator_of
from workers.compression.graph.shapes import sizes_of
from workers.compression.graph.weights import weights_of
from workers.compression.measure.clock import LayerTimes, shortest
from workers.compression.methods.prune.groups import Analysis, Removed, analyse
from workers.compression.methods.prune.latency import layer_time
from workers.compression.methods.prune.survey import Survey, survey_graph
from workers.compression.samples.context import Context, Samples


@dataclass(frozen=True)
class Subject:
    """A graph whose layers are charted."""

    model: ir.Model
    """Not changed."""
    context: Context
    samples: Samples
    """What the graph may run on."""
    layers: list[ChartLayer]
    """The nodes that hold weights, in the graph's order."""
    nodes: Mapping[str, ir.Node]
    """The nodes of the main graph, by name."""
    survey: Survey
    analysis: Analysis
    macs: int
    latency_ms: float
    """Of one run of the whole graph."""
    times: LayerTimes
    notes: list[str] = field(default_factory=list)

    def weight_of(self, row: int) -> float:
        """Return the share of the work and of the weights that a layer has."""
        layer = self.layers[row]
        weights = sum(each.size_bytes for each in self.layers)
        return layer.macs / max(self.macs, 1) + layer.size_bytes / max(weights, 1)

    def time(self, name: str, removed: Removed | None = None) -> float | None:
        """Return the milliseconds of a layer by itself; None where it does not run alone."""
        node = self.nodes[name]
        if not is_layer(node):
            return None
        cut = self.analysis.none_removed() if removed is None else removed
        return layer_time(node, cut, self.analysis, self.survey.sample, self.times) or None

    def saved(
        self, size_bytes: int, macs: int, before_ms: float | None, after_ms: float | None
    ) -> Saved:
        """Return what a form saves; where layers were not timed, the time follows the work."""
        if before_ms is not None and after_ms is not None:
            return Saved(
                size_bytes=size_bytes,
                macs=macs,
                latency_ms=round(before_ms - after_ms, 5),
                latency_from="measured",
            )
        share = macs / self.macs if self.macs else None
        return Saved(
            size_bytes=size_bytes,
            macs=macs,
            latency_ms=None if share is None else round(self.latency_ms * share, 5),
            latency_from=None if share is None else "macs",
        )


def subject_of(model: ir.Model, context: Context) -> Subject:
    """Look at a graph whose nodes have names; ``context`` has samples.

    Raises:
        StepFailed: the graph does not run.
    """
    assert context.train is not None, "whoever charts has samples"
    survey = survey_graph(model, context)
    analysis = analyse(model, survey.shapes, lambda _name: False)
    sizes = sizes_of(model, context.example)
    figures = stats.measure(model, sizes, context.example, context.layout.size)
    nodes = {str(node.name): node for node in model.graph}
    listed = [each for each in figures.layers if each.parameters and _holds_weights(nodes, each)]
    largest = sorted(listed, key=lambda each: -(each.macs + each.parameters))[:MAX_LAYERS]
    names = {each.name for each in largest}
    notes = []
    if len(listed) > len(largest):
        notes.append(f"The {len(largest)} largest of {len(listed)} layers are charted.")
    subject = Subject(
        model=model,
        context=context,
        samples=context.train,
        layers=[],
        nodes=nodes,
        survey=survey,
        analysis=analysis,
        macs=figures.macs,
        latency_ms=shortest(model, context.example, context.threads),
        times=LayerTimes(context.threads, context.known_times),
        notes=notes,
    )
    subject.layers.extend(_row(subject, each) for each in listed if each.name in names)
    return subject


def _holds_weights(nodes: Mapping[str, ir.Node], layer: stats.LayerStats) -> bool:
    node = nodes.get(layer.name)
    operator = None if node is None else operator_of(node)
    return operator is not None and bool(operator.weights)


def _row(subject: Subject, layer: stats.LayerStats) -> ChartLayer:
    weights = weights_of(subject.nodes[layer.name])
    return ChartLayer(
        name=layer.name,
        operator=layer.operator,
        parameters=layer.parameters,
        macs=layer.macs,
        size_bytes=sum(weight.tensor.nbytes for weight in weights),
        latency_ms=subject.time(layer.name),
    )


def reasons_of(skipped: list[Skipped]) -> dict[str, str]:
    """Return why a method leaves nodes alone, by node."""
    return {each.node: each.reason for each in skipped}
