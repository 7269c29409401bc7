"""What the analysis stands on: inputs that the graph runs on, and the shapes that they give."""

from dataclasses import dataclass

import onnx_ir as ir

from app.domain.problems import StepFailed
from workers.compression.graph import equivalence, runtime
from workers.compression.graph import shapes as graph_shapes
from workers.compression.graph.shapes import Shapes
from workers.compression.samples import axis
from workers.compression.samples.context import Context, Feeds, Samples


@dataclass(frozen=True)
class Survey:
    """Inputs and shapes."""

    trials: list[Feeds]
    """Inputs that cuts are proved on."""
    shapes: Shapes
    """Of all values, two samples at once where the graph allows it: an axis that counts samples is
    told from others so."""
    one: Feeds
    """One sample, or as many as a run is fixed to."""
    sample: Shapes
    """The shapes for it."""


def survey(model: ir.Model, context: Context) -> Survey:
    """Find inputs, from the data where there is some, and the shapes that they give.

    Raises:
        StepFailed: the graph runs on nothing that was tried.
    """
    if context.train is not None and len(context.train):
        one = context.train.first_run()
        trials = [_two_samples(context.train)]
    else:
        found = _trials(model, context)
        one, trials = found[0], found
    several = trials[min(1, len(trials) - 1)]
    shapes = graph_shapes.of_run(model, several)
    if all(several[name].shape == array.shape for name, array in one.items()):
        return Survey(trials, shapes, one, shapes)
    return Survey(trials, shapes, one, graph_shapes.of_run(model, one))


def _trials(model: ir.Model, context: Context) -> list[Feeds]:
    """Return random inputs: one sample, two where the graph takes them, and other sizes."""
    names = axis.counting(model, context.layout)
    with runtime.in_file(model) as path:
        found = equivalence.find_trials(model, path, context.seed, names)
    if not found:
        raise StepFailed(
            "Pruning proves each cut by running the graph, and it ran on no random input: name a"
            " dataset."
        )
    return [trial.feeds for trial in found]


def _two_samples(samples: Samples) -> Feeds:
    """Return two samples, or the fewest that a run takes where it does not take two."""
    if not samples.layout.free:
        return samples.first_run()
    return samples.feeds([samples.indices[0], samples.indices[min(1, len(samples) - 1)]])
