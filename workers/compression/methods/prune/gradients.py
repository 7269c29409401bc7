"""Criteria that ask how the loss, or what the graph answers, changes without a unit.

With classes as targets the loss is their cross-entropy. Without, a random direction of the outputs
takes its place: at the original graph itself, a loss against its own outputs has no gradient.
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
"""Training samples that criteria look at, at most."""

_FEW = 32
"""Samples that gradients are taken of, however much they cost."""

_WORK = 1e11
"""Multiply-accumulates, forth and back, that gradients may take beyond those few."""

_RUN = 8
"""Samples of one gradient: few, so that they do not cancel out."""


@dataclass(frozen=True)
class Slope:
    """A weight and its gradient on a few samples."""

    weight: NDArray[np.float32]
    gradient: NDArray[np.float32]


def by_gradient(
    kind: Literal["taylor", "hessian"],
    model: ir.Model,
    found: Weights,
    analysis: Analysis,
    context: Context,
    advance: Callable[[float], None],
) -> Scores:
    """Score by the loss that a unit's absence costs, mean over samples.

    ``taylor`` squares the first-order change (Molchanov et al., CVPR 2019); ``hessian`` sums
    ``w²·g²`` over the weights, with the squared gradient for the diagonal of the Hessian (Optimal
    Brain Damage, LeCun et al. 1989, with the empirical Fisher). A unit's weights are those that
    read it, for there its absence acts; where none does (heads between two products), those that
    write it.

    Args:
        kind: of expansion.
        model: the graph; not changed.
        found: its weights.
        analysis: what hangs together.
        context: data, seed, threads, device.
        advance: told the fraction done.

    Raises:
        StepFailed: there is no data, or no gradient.
    """
    places = {group: _acting(group, found) for group in analysis.groups}
    names = {place.value for own in places.values() for place in own}
    scores = np.zeros(analysis.units, np.float64)
    for slopes in _slopes(model, sorted(names), context, advance):
        for group, own in places.items():
            parts = [_part(kind, group, place, analysis, slopes) for place in own]
            if parts:
                change = np.sum(parts, axis=0)
                scores[group.units] += change**2 if kind == "taylor" else change
    if not scores.any():
        raise StepFailed("No gradient reaches a weight: choose 'criterion': 'magnitude'.")
    return scores


def _acting(group: Group, found: Weights) -> list[Place]:
    own = [place for place in group.places if place.value in found.arrays]
    reading = [place for place in own if found.written[place.value] != place.axis]
    return reading or list(written_places(group, found))


def _part(
    kind: str, group: Group, place: Place, analysis: Analysis, slopes: dict[str, Slope]
) -> Scores:
    slope = slopes[place.value]
    product = slope.weight.astype(np.float64) * slope.gradient
    values = product if kind == "taylor" else product**2
    others = tuple(axis for axis in range(values.ndim) if axis != place.axis)
    return per_unit(group, place, analysis, values.sum(axis=others))


def calibration(context: Context, most: int = SAMPLES) -> Samples:
    """Draw samples of the training split.

    Raises:
        StepFailed: there are none.
    """
    if context.train is None or len(context.train) == 0:
        raise StepFailed(
            "This criterion looks at data: name a dataset, or choose 'criterion': 'magnitude'."
        )
    return context.train.draw(most, context.seed)


def _slopes(
    model: ir.Model, names: list[str], context: Context, advance: Callable[[float], None]
) -> Iterator[dict[str, Slope]]:
    """Yield the weights' gradients on a few samples after the others."""
    torch.set_num_threads(context.threads)
    samples = calibration(context)
    macs = stats.macs_of_one(model, samples.first_run(), samples.layout.size)
    most = int(np.clip(_WORK / max(3 * macs, 1), _FEW, SAMPLES))
    samples = calibration(context, most)
    executor = build(model).to(context.device)
    known = [name for name in names if name in executor.names]
    feed = feed_for(executor, samples, context.device)
    feed = feed if feed.fixed else Feed(samples, feed.device, min(feed.size, _RUN), fixed=False)
    loss = _loss(model, executor, feed, context)
    parts = list(feed.parts(list(samples.indices)))
    for done, rows in enumerate(parts, start=1):
        executor.zero_grad()
        batch = feed.batch(rows)
        loss(feed.outputs(executor, batch), batch).backward()  # type: ignore[no-untyped-call]
        yield {name: _slope(executor.weight(name)) for name in known}
        advance(done / len(parts))


def _slope(parameter: torch.nn.Parameter) -> Slope:
    weight = parameter.detach().float().cpu()
    gradient = torch.zeros_like(weight) if parameter.grad is None else parameter.grad.float().cpu()
    return Slope(weight.numpy(), gradient.numpy())


def _loss(
    model: ir.Model, executor: Executor, feed: Feed, context: Context
) -> Callable[[Outputs, Batch], Tensor]:
    """Return the cross-entropy where the targets are classes, else a random direction."""
    judged = judged_output(model, context.evaluate)
    outputs, targets = probe(executor, feed, context.seed, _FEW)
    if targets is not None and not targets.is_floating_point():
        axis = losses.class_axis(outputs[judged].shape, targets.shape)
        if axis is not None:
            term = objectives.labels(judged, outputs[judged], targets, yardstick=None)
            return lambda outputs, batch: term(outputs, {}, batch.targets)
    along = project(outputs, context.seed)
    return lambda outputs, _batch: along(outputs)


def squared_gradients(
    model: ir.Model, names: list[str], context: Context, advance: Callable[[float], None]
) -> dict[str, NDArray[np.float32]]:
    """Return the mean squared gradient of each weight: the diagonal of the empirical Fisher.

    Raises:
        StepFailed: there is no data.
    """
    total: dict[str, NDArray[np.float32]] = {}
    for slopes in _slopes(model, names, context, advance):
        for name, slope in slopes.items():
            total[name] = total.get(name, np.float32(0)) + slope.gradient**2
    return total
