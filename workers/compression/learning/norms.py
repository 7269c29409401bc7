"""Batch normalisation: by batch statistics in training, by measured statistics afterwards."""

from collections.abc import Sequence

import onnx_ir as ir
import torch
from torch import Tensor

from workers.compression.executor import build
from workers.compression.graph.editor import Editor
from workers.compression.graph.rewrites.batchnorm import fold_batchnorm
from workers.compression.learning import batchwise
from workers.compression.learning.feed import Feed

_MEASURED_SAMPLES = 2048


def by_batch(model: ir.Model) -> ir.Model:
    """Return a copy whose BatchNormalizations use batch statistics, and give them as outputs."""
    return batchwise.by_batch(model, {str(norm.outputs[0].name) for norm in _norms(model)}, 0.0)


def settle(model: ir.Model, batched: ir.Model, feed: Feed, seed: int) -> None:
    """Copy trained weights into a graph, measure its batch statistics, and fold its normalisations.

    Args:
        model: the graph before ``by_batch``; changed in place.
        batched: the trained copy that ``by_batch`` made.
        feed: the samples that the statistics are measured on, in part. Runs are drawn at random, as
            in training.
        seed: the seed of that draw.
    """
    for name, value in model.graph.initializers.items():
        value.const_value = batched.graph.initializers[name].const_value
    measure(model, feed, seed)
    fold_batchnorm(model)
    Editor(model).remove_unused()


def measure(model: ir.Model, feed: Feed, seed: int) -> None:
    """Replace the statistics of a graph's normalisations by those of samples, in place.

    Args:
        model: the graph. Each normalisation sees what those before it make of a run's samples.
        feed: the samples, of which up to 2048 are drawn.
        seed: the seed of that draw.
    """
    batched, norms = by_batch(model), _norms(model)
    statistic_names = [
        f"{norm.outputs[0].name}_{statistic_name}"
        for norm in norms
        for statistic_name in ("mean", "variance")
    ]
    for norm, measured in zip(norms, _measured(batched, statistic_names, feed, seed), strict=True):
        for statistic, moment in zip(norm.inputs[3:5], measured, strict=True):
            assert statistic is not None
            array = moment.float().cpu().numpy()
            statistic.const_value = ir.Tensor(array, name=statistic.name)


@torch.no_grad()
def _measured(
    batched: ir.Model, statistic_names: Sequence[str], feed: Feed, seed: int
) -> list[tuple[Tensor, Tensor]]:
    """Return mean and variance of each normalisation over the batches."""
    if not statistic_names:
        return []
    forward = build(batched, outputs=statistic_names).to(feed.device)
    parts = list(feed.parts(feed.samples.draw(_MEASURED_SAMPLES, seed).indices))
    full_parts = [part for part in parts if len(part) == len(parts[0])]  # all weigh the same
    runs = [forward(feed.batch(part).feeds) for part in full_parts]
    mean = {name: torch.stack([run[name] for run in runs]).double() for name in statistic_names}
    pairs = zip(statistic_names[::2], statistic_names[1::2], strict=True)
    # the total variance is the mean variance within batches plus the variance of their means
    return [(mean[m].mean(0), mean[v].mean(0) + mean[m].var(0, correction=0)) for m, v in pairs]


def _norms(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "BatchNormalization"]
