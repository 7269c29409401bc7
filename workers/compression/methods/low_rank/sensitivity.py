"""What the outputs of the whole graph lose when one layer is replaced, to first order.

A weight that changes by ``ΔW`` changes the outputs by about ``J·ΔW``. Along a random direction of
the outputs (see ``learning/directions.py``) that is the product of ``ΔW`` and one gradient, and its
square is, on average, the squared length of the change. So a few gradients on data tell the
squared error of the outputs for every candidate of every layer, and none has to be run. It is the
Gauss-Newton term of "Optimal Brain Damage" (LeCun et al. 1989) for the very change that a
decomposition makes, without taking weights for independent.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace as with_changes

import numpy as np
import onnx_ir as ir
import torch

from app.domain.problems import StepFailed
from workers.compression.executor import Executor, build
from workers.compression.graph import stats
from workers.compression.graph.editor import Editor
from workers.compression.learning.directions import project
from workers.compression.learning.feed import Feed, feed_for
from workers.compression.learning.teacher import probe
from workers.compression.learning.trainable import obstacles
from workers.compression.methods.low_rank.candidates import Candidate
from workers.compression.methods.low_rank.decompositions import Factor, Slope
from workers.compression.methods.low_rank.layers import LowRankLayer
from workers.compression.methods.low_rank.writer import replace
from workers.compression.samples.context import Context, Samples

Ways = Sequence[Sequence[Candidate]]

_UNKNOWN = "What the outputs lose cannot be told ({}): choose 'rank': 'ratio'."

_FEWEST, _MOST = 16, 64
"""Gradients, each on other samples and along another direction."""
_RUN = 2
"""Samples of one gradient, where the graph lets one choose."""
_SCALED = 16
"""Samples that tell the variance of the outputs."""
_WORK = 2e12
"""Multiply-accumulates that all of it may take."""
_PASSES = 3
"""Multiply-accumulates of a gradient over those of a run."""


def weighed(
    model: ir.Model,
    layers: Sequence[LowRankLayer],
    ways: Ways,
    samples: Samples,
    context: Context,
    advance: Callable[[float], None],
) -> list[list[Candidate]]:
    """Return the candidates with the share of the outputs that each loses by itself.

    The share is the mean squared change over the variance, a mean over outputs of floats.

    Args:
        model: the graph; not changed.
        layers: of it.
        ways: the candidates of each.
        samples: to look at.
        context: seed, threads, device.
        advance: told the fraction done.

    Raises:
        StepFailed: no gradient reaches a layer, or it would take too long.
    """
    if found := obstacles(model):
        raise StepFailed(_UNKNOWN.format(f"'{found[0].node}': {found[0].reason}"))
    torch.set_num_threads(context.threads)
    plain, places = _plain(model, layers)
    executor = build(plain).to(context.device)
    feed = feed_for(executor, samples, context.device)
    feed = feed if feed.fixed else with_changes(feed, size=min(feed.size, _RUN))
    count = _affordable(model, layers, context, feed.size)
    if count < _FEWEST:
        raise StepFailed(_UNKNOWN.format("for so large a model it would take too long"))
    changes = list[list[list[float]]]()
    along = project(probe(executor, feed, context.seed, _SCALED)[0], context.seed)
    for done in range(count):
        executor.zero_grad()
        outputs = feed.outputs(executor, feed.batch(_rows(feed, done)))
        along(outputs).backward()  # type: ignore[no-untyped-call]
        slopes = [_slope(executor, *each) for each in zip(layers, places, strict=True)]
        changes.append([_changes(*each) for each in zip(ways, slopes, strict=True)])
        advance((done + 1) / count)
    lost = [np.square(each).mean(0) for each in zip(*changes, strict=True)]
    if not all(np.isfinite(each).all() for each in lost) or not any(each.any() for each in lost):
        raise StepFailed(_UNKNOWN.format("its gradients are not finite, or zero"))
    return [
        [with_changes(way, loss=float(loss)) for way, loss in zip(each, own, strict=True)]
        for each, own in zip(ways, lost, strict=True)
    ]


def _affordable(
    model: ir.Model, layers: Sequence[LowRankLayer], context: Context, size: int
) -> int:
    """Return how many gradients there is time for: for them, and to project them."""
    macs = stats.macs_of_one(model, context.example, context.layout.size)
    projected = sum(w.size * min(w.shape[:2]) * w.ndim for w in (layer.weight for layer in layers))
    return int(min(_WORK / max(_PASSES * size * macs + projected, 1), _MOST))


def _plain(
    model: ir.Model, layers: Sequence[LowRankLayer]
) -> tuple[ir.Model, list[tuple[str, str]]]:
    """Return a copy whose layers have weights ``[O, I, *kernel]`` (products ``[I, O]``) and biases.

    With it come the names of both for each layer; a MatMul's bias has none.
    """
    plain = model.clone()
    nodes, edit = {node.name: node for node in plain.graph}, Editor(plain)
    places = []
    for layer in layers:
        whole = Factor(layer.weight, axes=tuple(range(layer.weight.ndim - 2)))
        own = with_changes(layer, node=nodes[layer.name])
        (node,) = replace(edit, own, [whole], np.zeros(len(layer.weight)))
        names = [str(value.name) for value in node.inputs[1:] if value is not None]
        places.append((names[0], names[1] if len(names) > 1 else ""))
    edit.remove_unused()
    return plain, places


def _rows(feed: Feed, run: int) -> list[int]:
    """Return the samples of a run, from the first again after the last."""
    rows = feed.samples.indices
    size = min(feed.size, len(rows))
    return [rows[(run * size + place) % len(rows)] for place in range(size)]


def _slope(executor: Executor, layer: LowRankLayer, place: tuple[str, str]) -> Slope:
    weight, bias = (executor.weight(name).grad if name else None for name in place)
    if weight is None:
        raise StepFailed(_UNKNOWN.format(f"no gradient reaches '{layer.name}'"))
    array = weight.double().cpu().numpy()
    added = np.zeros(len(layer.weight)) if bias is None else bias.double().cpu().numpy()
    return Slope(array if layer.node.op_type == "Conv" else array.T, added)


def _changes(each: Sequence[Candidate], slope: Slope) -> list[float]:
    """Return by how much each candidate moves the outputs along the direction."""
    known = {id(way.decomposition): way.decomposition for way in each}
    slopes = {key: decomposition.slope(slope) for key, decomposition in known.items()}
    return [slopes[id(way.decomposition)](way.ranks) for way in each]
