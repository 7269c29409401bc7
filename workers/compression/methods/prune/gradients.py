"""Gradient criteria: they estimate the change of the loss when a unit is removed.

If the targets are classes, the loss is the cross-entropy. Otherwise it is a random projection of
the outputs: a loss against the original graph's outputs would have no gradient at that graph.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.domain.problems import StepFailed
from workers.compression.executor import Executor, build
from workers.compression.graph import stats
from workers.compression.learning import losses, objectives
from workers.compression.learning.directions import project
from workers.compression.learning.feed import Batch, Feed, Outputs, feed_for
from workers.compression.learning.teacher import probe
from workers.compression.measure.quality import judged_output
from workers.compression.methods.prune.groups import Analysis, Group, Place
from workers.compression.methods.prune.importance import Scores, Weights, per_unit, written_places
from workers.compression.samples.context import Context, Samples

SAMPLES = 256
"""The greatest number of training samples that a criterion uses."""

_FEW = 32
"""The least number of samples that gradients are computed on, whatever their cost."""

_WORK = 1e11
"""Multiply-accumulates that gradients may take, the backward pass included."""

_RUN = 8
"""The number of samples in one gradient: few, so that gradients do not cancel out."""

_NO_GRADIENT = (
    "No output of the model has a gradient by its weights: they are integers, or come from a choice"
    " of the largest. Use 'criterion': 'magnitude', or another one that looks at no gradient."
)


@dataclass(frozen=True)
class WeightGradient:
    """A weight and its gradient on a few samples."""

    weight: NDArray[np.float32]
    gradient: NDArray[np.float32]


def by_gradient(
    kind: Literal["taylor", "hessian"],
    model: ir.Model,
    weights: Weights,
    analysis: Analysis,
    context: Context,
    advance: Callable[[float], None],
) -> Scores:
    """Score a unit by the estimated change of the loss without it, a mean over samples.

    ``taylor`` squares the first-order change (Molchanov et al., CVPR 2019). ``hessian`` sums
    ``w²·g²`` over the weights: the squared gradient stands for the diagonal of the Hessian (Optimal
    Brain Damage, LeCun et al. 1989, with the empirical Fisher). A unit's weights are those that
    read it. If no weight reads it (heads between two products), they are those that write it.

    Args:
        kind: the kind of expansion.
        model: the graph; not changed.
        weights: the weights of the graph's layers.
        analysis: the coupled units of the graph.
        context: data, seed, threads, device.
        advance: called with the fraction done.

    Raises:
        StepFailed: there is no data, or no gradient.
    """
    places = {group: _scored_places(group, weights) for group in analysis.groups}
    names = {place.value for group_places in places.values() for place in group_places}
    scores = np.zeros(analysis.units, np.float64)
    for gradients in _gradients(model, sorted(names), context, advance):
        for group, group_places in places.items():
            parts = [_part(kind, group, place, analysis, gradients) for place in group_places]
            if parts:
                change = np.sum(parts, axis=0)
                scores[group.units] += change**2 if kind == "taylor" else change
    if not scores.any():
        raise StepFailed("No gradient reaches a weight: choose 'criterion': 'magnitude'.")
    return scores


def _scored_places(group: Group, weights: Weights) -> list[Place]:
    weight_places = [place for place in group.places if place.value in weights.arrays]
    reading = [place for place in weight_places if weights.written[place.value] != place.axis]
    return reading or list(written_places(group, weights))


def _part(
    kind: str, group: Group, place: Place, analysis: Analysis, gradients: dict[str, WeightGradient]
) -> Scores:
    weight_gradient = gradients[place.value]
    product = weight_gradient.weight.astype(np.float64) * weight_gradient.gradient
    values = product if kind == "taylor" else product**2
    other_axes = tuple(axis for axis in range(values.ndim) if axis != place.axis)
    return per_unit(group, place, analysis, values.sum(axis=other_axes))


def calibration(context: Context, most: int = SAMPLES) -> Samples:
    """Draw samples of the training split.

    Raises:
        StepFailed: there are none.
    """
    if not context.train:
        raise StepFailed(
            "This criterion looks at data: name a dataset, or choose 'criterion': 'magnitude'."
        )
    return context.train.draw(most, context.seed)


def _gradients(
    model: ir.Model, names: list[str], context: Context, advance: Callable[[float], None]
) -> Iterator[dict[str, WeightGradient]]:
    """Yield the gradients of the weights, for one small batch of samples after another.

    Raises:
        StepFailed: there is no data, or no output has a gradient.
    """
    torch.set_num_threads(context.threads)
    samples = calibration(context)
    macs = stats.macs_of_one(model, samples.first_run(), samples.layout.size)
    most = int(np.clip(_WORK / max(3 * macs, 1), _FEW, SAMPLES))
    samples = calibration(context, most)
    executor = build(model).to(context.device)
    trained_names = [name for name in names if name in executor.names]
    feed = feed_for(executor, samples, context.device)
    feed = feed if feed.fixed else Feed(samples, feed.device, min(feed.size, _RUN), fixed=False)
    loss = _loss(model, executor, feed, context)
    parts = list(feed.parts(list(samples.indices)))
    for done, rows in enumerate(parts, start=1):
        executor.zero_grad()
        batch = feed.batch(rows)
        value = loss(feed.outputs(executor, batch), batch)
        if not value.requires_grad:
            raise StepFailed(_NO_GRADIENT)
        value.backward()  # type: ignore[no-untyped-call]
        yield {name: _weight_gradient(executor.weight(name)) for name in trained_names}
        advance(done / len(parts))


def _weight_gradient(parameter: torch.nn.Parameter) -> WeightGradient:
    weight = parameter.detach().float().cpu()
    gradient = torch.zeros_like(weight) if parameter.grad is None else parameter.grad.float().cpu()
    return WeightGradient(weight.numpy(), gradient.numpy())


def _loss(
    model: ir.Model, executor: Executor, feed: Feed, context: Context
) -> Callable[[Outputs, Batch], Tensor]:
    """Return the cross-entropy if the targets are classes, else a random projection."""
    judged = judged_output(model, context.evaluate)
    outputs, targets = probe(executor, feed, context.seed, _FEW)
    if targets is not None and not targets.is_floating_point():
        axis = losses.class_axis(outputs[judged].shape, targets.shape)
        if axis is not None:
            term = objectives.labels(judged, outputs[judged], targets, yardstick=None)
            return lambda outputs, batch: term(outputs, {}, batch.targets)
    if not any(output.is_floating_point() for output in outputs.values()):
        raise StepFailed(_NO_GRADIENT)
    projection = project(outputs, context.seed)
    return lambda outputs, _batch: projection(outputs)


def squared_gradients(
    model: ir.Model, names: list[str], context: Context, advance: Callable[[float], None]
) -> dict[str, NDArray[np.float32]]:
    """Return the mean squared gradient of each weight: the diagonal of the empirical Fisher.

    Raises:
        StepFailed: there is no data.
    """
    total: dict[str, NDArray[np.float32]] = {}
    for gradients in _gradients(model, names, context, advance):
        for name, weight_gradient in gradients.items():
            total[name] = total.get(name, np.float32(0)) + weight_gradient.gradient**2
    return total
