"""A graph that others learn from: its answers, kept where they fit into memory."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from workers.compression.learning.feed import Batch, Feed, Forward, Outputs

_PROBED = 64
_CACHED_BYTES = 256 << 20

Answers = Callable[[Batch], Outputs]


@torch.no_grad()
def probe(forward: Forward, feed: Feed, samples: int = _PROBED) -> tuple[Outputs, Tensor | None]:
    """Return what a graph answers to the first few samples, and their targets."""
    found = [
        (feed.outputs(forward, batch), batch.targets)
        for batch in map(feed.batch, _parts(feed, feed.samples.indices[:samples]))
    ]
    outputs = {name: _joined([each[name] for each, _ in found]) for name in found[0][0]}
    targets = [each for _, each in found if each is not None]
    return outputs, torch.cat(targets) if targets else None


def answers(forward: Forward, feed: Feed) -> Answers:
    """Return a function that says what a graph answers to a batch.

    Every sample is answered once, in an order of its own, if all answers fit into memory and
    samples are not augmented; else each batch when it comes.

    Args:
        forward: runs the teacher.
        feed: the samples that will be asked about.
    """
    first = feed.batch(_parts(feed, feed.samples.indices)[0])

    @torch.no_grad()
    def ask(batch: Batch) -> Outputs:
        return feed.outputs(forward, batch)

    sample = ask(first)
    each = sum(value.nbytes for value in sample.values()) / len(first.rows)
    if feed.kinds or each * len(feed.samples) > _CACHED_BYTES:
        return ask
    parts = [ask(feed.batch(part)) for part in _parts(feed, feed.samples.indices)]
    if any(part[name].shape[1:] != sample[name].shape[1:] for part in parts for name in sample):
        return ask
    known = {name: torch.cat([part[name] for part in parts]) for name in sample}
    places = {row: place for place, row in enumerate(feed.samples.indices)}

    def remember(batch: Batch) -> Outputs:
        index = torch.tensor([places[row] for row in batch.rows], device=feed.device)
        return {name: value[index] for name, value in known.items()}

    return remember


def _parts(feed: Feed, rows: Sequence[int]) -> list[list[int]]:
    smaller = feed if feed.fixed else replace(feed, size=min(feed.size, _PROBED))
    return list(smaller.parts(rows))


def _joined(values: Sequence[Tensor]) -> Tensor:
    """Return answers as one batch; where their sizes differ, those of the first size."""
    return torch.cat([value for value in values if value.shape[1:] == values[0].shape[1:]])
