"""A supernet as both of its methods need it: its networks, and how samples run through them."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import onnx_ir as ir
import torch

from app.domain.problems import StepFailed
from workers.compression.executor import build
from workers.compression.learning import norms
from workers.compression.learning.feed import Feed, feed_for
from workers.compression.learning.renormalise import LEAST_RUN, Renormalised, candidates
from workers.compression.methods.elastic.masked import Masked, masked
from workers.compression.methods.elastic.networks import networks_of
from workers.compression.methods.prune.allocate import MULTIPLE
from workers.compression.samples.context import Context

_AT_ONCE = 4
"""The networks whose gradients are kept at a time."""


@dataclass(frozen=True)
class Shared:
    """A graph, its sub-networks, and one torch module that runs them all.

    Where runs are large enough, normalisation that was folded is put back, and each network is
    normalised by its own batch: the statistics of one do not fit another.

    Attributes:
        graph: the graph with its normalisations.
        masked: its networks in torch.
        feed: the samples.
        unfolded: puts normalisations back, and folds them again; None if there are none.
        batches: whether networks are normalised by their batches.
    """

    graph: ir.Model
    masked: Masked
    feed: Feed
    unfolded: Renormalised | None
    batches: bool

    def fold(self, graph: ir.Model, model: ir.Model, seed: int) -> None:
        """Measure the statistics of a graph's normalisations, and write its weights into a model.

        Args:
            graph: ``graph``, or that with a network cut out of it; changed in place.
            model: the graph without the normalisations that were put back, cut alike.
            seed: of the draw of samples.
        """
        if self.batches:
            norms.measure(graph, self.feed, seed)
        if self.unfolded is not None:
            self.unfolded.fold(model)
            return
        for name, value in graph.graph.initializers.items():
            if name in model.graph.initializers:
                model.graph.initializers[name].const_value = value.const_value


def share(
    model: ir.Model, context: Context, ignored: Collection[str] = (), multiple: int = MULTIPLE
) -> Shared:
    """Return what runs the networks of a graph whose channels are in order.

    Args:
        model: in normal form; not changed.
        context: the samples, seed, threads, device.
        ignored: names and patterns of nodes that keep their channels.
        multiple: the layers of a network keep a multiple of this many channels.

    Raises:
        StepFailed: there are no samples, or nothing in the graph can be left out.
    """
    if not context.train:
        raise StepFailed("A supernet needs a dataset: name one; it needs no targets.")
    torch.set_num_threads(context.threads)
    feed = feed_for(build(model).to(context.device), context.train, context.device)
    if not feed.fixed:
        feed = replace(feed, size=max(1, feed.size // _AT_ONCE))
    batches = min(feed.size, len(context.train)) >= LEAST_RUN
    unfolded = Renormalised(model, feed, context.seed) if batches and candidates(model) else None
    graph = model.clone() if unfolded is None else unfolded.model
    networks = networks_of(graph, context, ignored, multiple)
    if not networks.dials:
        raise StepFailed(
            "Nothing of this model can be left out: it has neither channels nor residual blocks"
            " that could be. Use 'quantize', or 'low_rank'."
        )
    copy, masks = masked(networks)
    if batches:
        copy = norms.by_batch(copy)
    outputs = [str(value.name) for value in graph.graph.outputs]
    executor = build(copy, outputs=outputs).to(context.device)
    return Shared(graph, Masked(networks, masks, executor, context.device), feed, unfolded, batches)
