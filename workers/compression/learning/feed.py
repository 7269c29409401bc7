"""Rows of a dataset as tensors, in runs that the graph and the memory allow."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.domain.problems import StepFailed
from workers.compression.learning.augment import augment
from workers.compression.samples.axis import takes_several
from workers.compression.samples.context import Feeds, Samples

Outputs = dict[str, Tensor]
Forward = Callable[[Mapping[str, Tensor]], Outputs]

_RUN_BYTES = 512 << 20
"""What one run may keep for its gradients, on the CPU."""


@dataclass(frozen=True)
class Batch:
    """Some samples on the device."""

    feeds: dict[str, Tensor]
    targets: Tensor | None
    """``[samples, …]``."""
    rows: list[int]
    """Their places in the dataset."""


@dataclass(frozen=True)
class Feed:
    """How samples reach a graph.

    Attributes:
        samples: where they are.
        device: as torch names it.
        size: samples of one run, at most.
        fixed: whether a run takes exactly ``size``; missing ones are filled up with the last.
        kinds: of augmentation.
    """

    samples: Samples
    device: str
    size: int
    fixed: bool
    kinds: tuple[str, ...] = ()

    def parts(self, rows: Sequence[int]) -> Iterator[list[int]]:
        """Yield the rows of each run."""
        for start in range(0, len(rows), self.size):
            yield list(rows[start : start + self.size])

    def batch(self, rows: list[int], random: np.random.Generator | None = None) -> Batch:
        """Return the samples of one run, augmented where ``random`` is given."""
        targets = self.samples.targets
        filled = rows + rows[-1:] * (self.size - len(rows)) if self.fixed else rows
        feeds = {name: self._tensor(array) for name, array in self.samples.feeds(filled).items()}
        if random is not None and self.kinds:
            feeds = {
                name: augment(each, self.kinds, random) if is_image(each) else each
                for name, each in feeds.items()
            }
        wanted = None if targets is None else self._tensor(targets[rows])
        return Batch(feeds, wanted, rows)

    def outputs(self, forward: Forward, batch: Batch) -> Outputs:
        """Run a graph; return outputs of exactly the batch's samples, ``[samples, …]``."""
        return {
            name: self._of_samples(name, each, len(batch.rows))
            for name, each in forward(batch.feeds).items()
        }

    def _of_samples(self, name: str, value: Tensor, count: int) -> Tensor:
        """Return an output with its axis of samples first; one without is said of each sample."""
        axis = self.samples.layout.output_axis(name, value.ndim)
        if axis is None or (self.size == 1 and value.shape[axis] != 1):
            return value[None].expand(count, *value.shape)
        return value.movedim(axis, 0)[:count]

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        """Copy, so that a tensor's place in memory does not depend on where the array lay."""
        plain = np.asarray(array, order="C")
        return torch.from_numpy(plain).clone().to(self.device)


def feed_for(
    forward: Forward,
    samples: Samples,
    device: str,
    kinds: Collection[str] = (),
) -> Feed:
    """Find out how many samples a graph takes at once.

    As many as their layout says that a run is fixed to, or where ``forward`` does not take several;
    else as many as fit into memory with what their gradients need.

    Args:
        forward: runs the graph.
        samples: at least one.
        device: where ``forward`` runs.
        kinds: of augmentation.

    Raises:
        StepFailed: images are to be augmented, and no input is one.
    """
    feed = Feed(samples, device, 1, fixed=False, kinds=tuple(kinds))
    first = feed.batch(list(samples.indices[:1]))
    if kinds and not any(is_image(each) for each in first.feeds.values()):
        raise StepFailed(
            "'augment' is for images, and no input holds floats in four dimensions: leave it out."
        )
    if not takes_several(partial(_run, forward, device), samples):
        return replace(feed, size=samples.layout.size, fixed=True)
    room = _RUN_BYTES if device == "cpu" else torch.cuda.mem_get_info(device)[0] // 2
    most = max(1, room // max(1, _kept_bytes(forward, first)))
    return Feed(samples, device, most, fixed=False, kinds=feed.kinds)


@torch.no_grad()
def _run(forward: Forward, device: str, feeds: Feeds) -> dict[str, NDArray[Any]]:
    """Run on arrays."""
    given = forward({name: torch.from_numpy(array).to(device) for name, array in feeds.items()})
    return {name: each.cpu().numpy() for name, each in given.items()}


def is_image(value: Tensor) -> bool:
    """Return whether an input may be a batch of images."""
    return value.ndim == 4 and value.is_floating_point() and min(value.shape[2:]) > 1


def _kept_bytes(forward: Forward, batch: Batch) -> int:
    """Return the bytes that a run keeps for its gradients, weights aside."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward(batch.feeds)
    return sum(kept.values())
