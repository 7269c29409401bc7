"""First-order estimates of the error in the graph's outputs when one layer is replaced.

A change ``ΔW`` of a weight changes the outputs by about ``J·ΔW``. Projected on a random direction
of the outputs (see ``learning/directions.py``), this is the inner product of ``ΔW`` and one
gradient. The square of that product is, on average, the squared length of the change. A few
gradients on data thus estimate the squared error for every candidate of every layer, and no
candidate has to run. This is the Gauss-Newton term of "Optimal Brain Damage" (LeCun et al. 1989)
for the change that a decomposition makes; weights are not assumed to be independent.
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
from workers.compression.methods.low_rank.candidates import Candidate, CandidatesOfLayers
from workers.compression.methods.low_rank.decompositions import Factor, LayerGradient
from workers.compression.methods.low_rank.layers import LowRankLayer
from workers.compression.methods.low_rank.writer import replace
from workers.compression.samples.context import Context, Samples

_UNKNOWN = "The error of the outputs cannot be estimated ({}): choose 'rank': 'ratio'."

_FEWEST, _MOST = 16, 64
"""The least and the greatest number of gradients, each with new samples and a new direction."""
_RUN = 2
"""The number of samples in one gradient, unless the graph fixes it."""
_SCALED = 16
"""The number of samples that the variance of the outputs is measured on."""
_WORK = 2e12
"""The multiply-accumulates that all gradients together may take."""
_PASSES = 3
"""The multiply-accumulates of a gradient, relative to a forward run."""


def weighed(
    model: ir.Model,
    layers: Sequence[LowRankLayer],
    candidates_of_layers: CandidatesOfLayers,
    samples: Samples,
    context: Context,
    advance: Callable[[float], None],
) -> list[list[Candidate]]:
    """Return the candidates with the error that each alone causes in the outputs as its loss.

    The error is the mean squared change over the variance, averaged over the outputs of floats.

    Args:
        model: the graph; not changed.
        layers: layers of the graph.
        candidates_of_layers: the candidates of each layer.
        samples: the samples for the gradients.
        context: seed, threads, device.
        advance: called with the fraction done.

    Raises:
        StepFailed: no gradient reaches a layer, or the gradients would take too long.
    """
    if blocked := obstacles(model):
        raise StepFailed(_UNKNOWN.format(f"'{blocked[0].node}': {blocked[0].reason}"))
    torch.set_num_threads(context.threads)
    plain, parameter_names = _plain(model, layers)
    executor = build(plain).to(context.device)
    feed = feed_for(executor, samples, context.device)
    feed = feed if feed.fixed else with_changes(feed, size=min(feed.size, _RUN))
    count = _affordable(model, layers, context, feed.size)
    if count < _FEWEST:
        raise StepFailed(_UNKNOWN.format("for so large a model it would take too long"))
    changes = list[list[list[float]]]()
    projection = project(probe(executor, feed, context.seed, _SCALED)[0], context.seed)
    for done in range(count):
        executor.zero_grad()
        outputs = feed.outputs(executor, feed.batch(_rows(feed, done)))
        projection(outputs).backward()  # type: ignore[no-untyped-call]
        gradients = [
            _gradient(executor, *pair) for pair in zip(layers, parameter_names, strict=True)
        ]
        changes.append(
            [_changes(*pair) for pair in zip(candidates_of_layers, gradients, strict=True)]
        )
        advance((done + 1) / count)
    losses = [np.square(layer_changes).mean(0) for layer_changes in zip(*changes, strict=True)]
    every_loss = np.concatenate(losses)
    if not np.isfinite(every_loss).all() or not every_loss.any():
        raise StepFailed(_UNKNOWN.format("its gradients are not finite, or zero"))
    return [
        [
            with_changes(candidate, loss=float(loss))
            for candidate, loss in zip(candidates, layer_losses, strict=True)
        ]
        for candidates, layer_losses in zip(candidates_of_layers, losses, strict=True)
    ]


def _affordable(
    model: ir.Model, layers: Sequence[LowRankLayer], context: Context, size: int
) -> int:
    """Return how many gradients the work limit allows, their projections included."""
    macs = stats.macs_of_one(model, context.example, context.layout.size)
    projected = sum(w.size * min(w.shape[:2]) * w.ndim for w in (layer.weight for layer in layers))
    return int(min(_WORK / max(_PASSES * size * macs + projected, 1), _MOST))


def _plain(
    model: ir.Model, layers: Sequence[LowRankLayer]
) -> tuple[ir.Model, list[tuple[str, str]]]:
    """Return a copy of the graph whose layers each have a weight of their own and a bias.

    Returns:
        The copy, and the names of the weight and the bias of each layer. Weights are
        ``[O, I, *kernel]``, or ``[I, O]`` for matrix products. A MatMul has no bias: its name is
        empty.
    """
    plain = model.clone()
    nodes, edit = {node.name: node for node in plain.graph}, Editor(plain)
    parameter_names = []
    for layer in layers:
        full_factor = Factor(layer.weight, axes=tuple(range(layer.weight.ndim - 2)))
        layer_in_copy = with_changes(layer, node=nodes[layer.name])
        (node,) = replace(edit, layer_in_copy, [full_factor], np.zeros(len(layer.weight)))
        names = [str(value.name) for value in node.inputs[1:] if value is not None]
        parameter_names.append((names[0], names[1] if len(names) > 1 else ""))
    edit.remove_unused()
    return plain, parameter_names


def _rows(feed: Feed, batch: int) -> list[int]:
    """Return the samples of a batch; after the last sample the first follows again."""
    rows = feed.samples.indices
    size = min(feed.size, len(rows))
    return [rows[(batch * size + offset) % len(rows)] for offset in range(size)]


def _gradient(executor: Executor, layer: LowRankLayer, names: tuple[str, str]) -> LayerGradient:
    weight, bias = (executor.weight(name).grad if name else None for name in names)
    if weight is None:
        raise StepFailed(_UNKNOWN.format(f"no gradient reaches '{layer.name}'"))
    weight_gradient = weight.double().cpu().numpy()
    bias_gradient = np.zeros(len(layer.weight)) if bias is None else bias.double().cpu().numpy()
    return LayerGradient(
        weight_gradient if layer.node.op_type == "Conv" else weight_gradient.T, bias_gradient
    )


def _changes(candidates: Sequence[Candidate], gradient: LayerGradient) -> list[float]:
    """Return the change of the outputs along the direction for each candidate."""
    decompositions = {
        id(candidate.decomposition): candidate.decomposition for candidate in candidates
    }
    functions = {
        key: decomposition.first_order(gradient) for key, decomposition in decompositions.items()
    }
    return [functions[id(candidate.decomposition)](candidate.ranks) for candidate in candidates]
