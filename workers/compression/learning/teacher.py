"""A teacher network: its outputs, cached where that costs little memory and time."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from workers.compression.learning.feed import Batch, Feed, Forward, Outputs
from workers.compression.learning.plan import Minutes

_PROBED = 64
_CACHED_BYTES = 256 << 20
_CACHED_TIME = 0.1
"""The share of the time budget that computing all outputs in advance may take."""

Answers = Callable[[Batch], Outputs]


@torch.no_grad()
def probe(
    forward: Forward, feed: Feed, seed: int, samples: int = _PROBED
) -> tuple[Outputs, Tensor | None]:
    """Return the outputs of a graph for a few samples, drawn at random, and their targets."""
    drawn = feed.samples.draw(samples, seed).indices
    runs = [
        (feed.outputs(forward, batch), batch.targets)
        for batch in map(feed.batch, _parts(feed, drawn))
    ]
    outputs = {name: _joined([run[name] for run, _ in runs]) for name in runs[0][0]}
    targets = [batch_targets for _, batch_targets in runs if batch_targets is not None]
    return outputs, torch.cat(targets) if targets else None


def answers(forward: Forward, feed: Feed, minutes: Minutes) -> Answers:
    """Return a function from a batch to the teacher's outputs for it.

    The outputs for all samples are computed in advance, once and in the order of the dataset, if
    samples are not augmented, the outputs fit into memory, and it takes a small part of the time.
    Otherwise they are computed for each batch on demand.

    Args:
        forward: runs the teacher.
        feed: the samples of the training.
        minutes: the time budget of the training.
    """

    @torch.no_grad()
    def compute(batch: Batch) -> Outputs:
        return feed.outputs(forward, batch)

    runs = _parts(feed, feed.samples.indices)
    first = compute(feed.batch(runs[0]))
    nbytes = sum(value.nbytes for value in first.values()) / len(runs[0])
    if feed.kinds or nbytes * len(feed.samples) > _CACHED_BYTES:
        return compute
    began = minutes.now()
    compute(feed.batch(runs[0]))
    if (minutes.now() - began) * len(runs) > _CACHED_TIME * minutes.limit:
        return compute
    parts = [compute(feed.batch(part)) for part in runs]
    if any(part[name].shape[1:] != first[name].shape[1:] for part in parts for name in first):
        return compute
    cache = {name: torch.cat([part[name] for part in parts]) for name in first}
    places = {row: place for place, row in enumerate(feed.samples.indices)}

    def look_up(batch: Batch) -> Outputs:
        index = torch.tensor([places[row] for row in batch.rows], device=feed.device)
        return {name: value[index] for name, value in cache.items()}

    return look_up


def _parts(feed: Feed, rows: Sequence[int]) -> list[list[int]]:
    smaller = feed if feed.fixed else replace(feed, size=min(feed.size, _PROBED))
    return list(smaller.parts(rows))


def _joined(values: Sequence[Tensor]) -> Tensor:
    """Concatenate outputs into one batch; those of another size than the first are left out."""
    return torch.cat([value for value in values if value.shape[1:] == values[0].shape[1:]])
