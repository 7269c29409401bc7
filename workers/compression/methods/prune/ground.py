"""What the analysis stands on: inputs that the graph runs on, and the shapes that they give."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from app.domain.problems import StepFailed
from workers.compression.graph import equivalence, runtime
from workers.compression.graph import shapes as graph_shapes
from workers.compression.graph.shapes import Shapes
from workers.compression.samples.context import Context, Feeds, Samples
from workers.compression.targets.onnx import batch_size


@dataclass(frozen=True)
class Survey:
    """Inputs and shapes."""

    trials: list[Feeds]
    """Inputs that cuts are proved on."""
    shapes: Shapes
    """Of all values, two samples at once where the graph allows it: an axis that counts samples is
    told from others so."""
    one: Feeds
    """One sample, for a graph whose batch is free."""
    sample: Shapes
    """The shapes for it."""


def survey(model: ir.Model, context: Context) -> Survey:
    """Find inputs, from the data where there is some, and the shapes that they give.

    Raises:
        StepFailed: the graph runs on nothing that was tried.
    """
    sizes: Mapping[str, int]
    single: Mapping[str, int]
    if context.train is not None and len(context.train):
        trials = [_two_samples(model, context.train)]
        sizes = _sizes(model, trials[0])
        single = graph_shapes.sizes_of(model, trials[0])
    else:
        found = _trials(model, context.seed)
        trials = [trial.feeds for trial in found]
        sizes, single = found[min(1, len(found) - 1)].sizes, found[0].sizes
    shapes = graph_shapes.of_run(model, trials[min(1, len(trials) - 1)], sizes)
    if sizes == single:
        return Survey(trials, shapes, trials[0], shapes)
    one = _first(model, trials[0])
    return Survey(trials, shapes, one, graph_shapes.of_run(model, one, single))


def _trials(model: ir.Model, seed: int) -> list[equivalence.Trial]:
    with runtime.in_file(model) as path:
        found = equivalence.find_trials(model, path, seed)
    if not found:
        raise StepFailed(
            "Pruning proves each cut by running the graph, and it ran on no random input: name a"
            " dataset."
        )
    return found


def _two_samples(model: ir.Model, samples: Samples) -> Feeds:
    """Return two samples, or the batch that the graph is fixed to."""
    size = batch_size(runtime.session_of(model), samples)
    free = size == 1 and not samples.whole and bool(graph_shapes.batch_names(model))
    return next(samples.batches(2 if free else size))[0]


def _first(model: ir.Model, feeds: Feeds) -> Feeds:
    """Return the first sample of feeds whose batch is free."""
    batches = graph_shapes.batch_names(model)
    counted = {
        str(value.name)
        for value in graph_shapes.inputs_of(model)
        if batches & set(graph_shapes.dimension_names(value)[:1])
    }
    return {name: array[:1] if name in counted else array for name, array in feeds.items()}


def _sizes(model: ir.Model, feeds: Feeds) -> dict[str, int]:
    found: dict[str, int] = {}
    for value in graph_shapes.inputs_of(model):
        names = graph_shapes.dimension_names(value)
        found.update(zip(names, feeds[str(value.name)].shape, strict=True))
    return {name: found[name] for _, name in graph_shapes.symbolic(model)}
