"""Normalisation by the batch while a network is trained, and by what was measured ever after."""

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
    """Return a copy in which every BatchNormalization looks at the batch, and tells what it saw."""
    return batchwise.by_batch(model, {str(norm.outputs[0].name) for norm in _norms(model)}, 0.0)


def settle(model: ir.Model, batched: ir.Model, feed: Feed, seed: int) -> None:
    """Give a graph the weights of its copy and measured statistics; fold its normalisations away.

    Args:
        model: as it was before ``by_batch``.
        batched: what ``by_batch`` made of it, trained.
        feed: the samples that those to measure on are drawn from. Runs are mixed at random, as
            those of the training are.
        seed: of the draw.
    """
    for name, value in model.graph.initializers.items():
        value.const_value = batched.graph.initializers[name].const_value
    norms = _norms(model)
    names = [str(norm.outputs[0].name) for norm in norms]
    wanted = [f"{name}_{what}" for name in names for what in ("mean", "variance")]
    for norm, measured in zip(norms, _measured(batched, wanted, feed, seed), strict=True):
        for statistic, moment in zip(norm.inputs[3:5], measured, strict=True):
            assert statistic is not None
            array = moment.float().cpu().numpy()
            statistic.const_value = ir.Tensor(array, name=statistic.name)
    fold_batchnorm(model)
    Editor(model).remove_unused()


@torch.no_grad()
def _measured(
    batched: ir.Model, wanted: Sequence[str], feed: Feed, seed: int
) -> list[tuple[Tensor, Tensor]]:
    """Return mean and variance of each normalisation over the batches."""
    if not wanted:
        return []
    forward = build(batched, outputs=wanted).to(feed.device)
    parts = list(feed.parts(feed.samples.draw(_MEASURED_SAMPLES, seed).indices))
    whole = [part for part in parts if len(part) == len(parts[0])]  # a smaller one counts too much
    runs = [forward(feed.batch(part).feeds) for part in whole]
    mean = {name: torch.stack([run[name] for run in runs]).double() for name in wanted}
    pairs = zip(wanted[::2], wanted[1::2], strict=True)
    # the variance of all is that within batches and that of their means
    return [(mean[m].mean(0), mean[v].mean(0) + mean[m].var(0, correction=0)) for m, v in pairs]


def _norms(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "BatchNormalization"]
