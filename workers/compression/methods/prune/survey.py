"""Finds inputs that the graph runs on, and the shapes of all values with them."""

from dataclasses import dataclass

import onnx_ir as ir

from app.domain.problems import StepFailed
from workers.compression.graph import runtime
from workers.compression.graph import shapes as graph_shapes
from workers.compression.graph.shapes import Shapes
from workers.compression.graph.trials import find_trials
from workers.compression.samples import axis
from workers.compression.samples.context import Context, Feeds, Samples


@dataclass(frozen=True)
class Survey:
    """Inputs that a graph runs on, and the shapes of its values."""

    trials: list[Feeds]
    """The inputs that cuts are verified on."""
    shapes: Shapes
    """The shapes of all values for two samples, if the graph allows two: the axis of samples then
    differs from other axes."""
    one: Feeds
    """One sample, or as many as the graph is fixed to."""
    sample: Shapes
    """The shapes of all values for ``one``."""


def survey_graph(model: ir.Model, context: Context) -> Survey:
    """Find inputs, from the data if there is any, and the shapes of all values with them.

    Raises:
        StepFailed: the graph runs on none of the random inputs.
    """
    if context.train:
        one = context.train.first_run()
        trials = [_two_samples(context.train)]
    else:
        inputs = _trials(model, context)
        one, trials = inputs[0], inputs
    several = trials[min(1, len(trials) - 1)]
    shapes = graph_shapes.of_run(model, several)
    if all(several[name].shape == array.shape for name, array in one.items()):
        return Survey(trials, shapes, one, shapes)
    return Survey(trials, shapes, one, graph_shapes.of_run(model, one))


def _trials(model: ir.Model, context: Context) -> list[Feeds]:
    """Return random inputs: one sample, two samples if the graph takes them, and other sizes."""
    names = axis.sample_dimensions(model, context.layout)
    with runtime.in_file(model) as path:
        trials = find_trials(model, path, context.seed, names)
    if not trials:
        raise StepFailed(
            "Pruning proves each cut by running the graph, and it ran on no random input: name a"
            " dataset."
        )
    return [trial.feeds for trial in trials]


def _two_samples(samples: Samples) -> Feeds:
    """Return two samples; if a run does not take two, the fewest that it takes."""
    if not samples.layout.free:
        return samples.first_run()
    return samples.feeds([samples.indices[0], samples.indices[min(1, len(samples) - 1)]])
