"""Feeds a dataset to a graph in batches that the graph takes and that fit into memory."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.domain.problems import StepFailed
from app.domain.steps.recover import Change
from workers.compression.learning.augment import augment
from workers.compression.samples.axis import takes_several
from workers.compression.samples.context import Feeds, Samples

Outputs = dict[str, Tensor]
Forward = Callable[[Mapping[str, Tensor]], Outputs]

_RUN_BYTES = 512 << 20
"""The most bytes that one run may keep for its gradients, on the CPU."""


@dataclass(frozen=True)
class Batch:
    """A batch of samples on the device."""

    feeds: dict[str, Tensor]
    targets: Tensor | None
    """``[samples, …]``."""
    rows: list[int]
    """The row of each sample in the dataset."""


@dataclass(frozen=True)
class Feed:
    """How samples reach a graph.

    Attributes:
        samples: the dataset.
        device: as torch names it.
        size: the largest number of samples in one run.
        fixed: whether a run takes exactly ``size`` samples; a shorter run repeats its last sample.
        kinds: the kinds of augmentation.
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
                name: augment(value, self.kinds, random) if is_image(value) else value
                for name, value in feeds.items()
            }
        batch_targets = None if targets is None else self._tensor(targets[rows])
        return Batch(feeds, batch_targets, rows)

    def outputs(self, forward: Forward, batch: Batch) -> Outputs:
        """Run a graph; return outputs of exactly the batch's samples, ``[samples, …]``."""
        return {
            name: self._of_samples(name, value, len(batch.rows))
            for name, value in forward(batch.feeds).items()
        }

    def _of_samples(self, name: str, value: Tensor, count: int) -> Tensor:
        """Return an output with its axis of samples first; without one, it is repeated."""
        axis = self.samples.layout.output_axis(name, value.ndim)
        if axis is None or (self.size == 1 and value.shape[axis] != 1):
            return value[None].expand(count, *value.shape)
        return value.movedim(axis, 0)[:count]

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        """Return a copy of an array as a tensor, so that its alignment is always the same."""
        plain = np.asarray(array, order="C")
        return torch.from_numpy(plain).clone().to(self.device)


def feed_for(
    forward: Forward,
    samples: Samples,
    device: str,
    kinds: Collection[str] | None = (),
) -> Feed:
    """Find out how many samples a graph takes at once.

    The layout says so where the size of a run is fixed, or where ``forward`` takes one sample
    only. Otherwise as many as fit into memory together with the values kept for the gradients.

    Args:
        forward: runs the graph.
        samples: the dataset; at least one sample.
        device: where ``forward`` runs.
        kinds: the kinds of augmentation; None for ``usual_kinds``.

    Raises:
        StepFailed: images are to be augmented, and no input is one.
    """
    kinds = tuple(usual_kinds(samples) if kinds is None else kinds)
    feed = Feed(samples, device, 1, fixed=False, kinds=kinds)
    first = feed.batch(list(samples.indices[:1]))
    if kinds and not any(is_image(value) for value in first.feeds.values()):
        raise StepFailed(
            "'augment' is for images, and no input holds floats in four dimensions: leave it out."
        )
    if not takes_several(partial(_run, forward, device), samples):
        return replace(feed, size=samples.layout.size, fixed=True)
    room = _RUN_BYTES if device == "cpu" else torch.cuda.mem_get_info(device)[0] // 2
    most = max(1, room // max(1, _kept_bytes(forward, first)))
    return Feed(samples, device, most, fixed=False, kinds=feed.kinds)


def usual_kinds(samples: Samples) -> list[Change]:
    """Return the kinds of augmentation of a training whose settings name none.

    Images that were made from the model are mixed: they are too much alike for a training, and the
    original answers whatever it is shown. Others stay as they are.
    """
    first = samples.feeds(samples.indices[:1])
    return (
        ["mix"]
        if samples.made and any(map(is_image, map(torch.from_numpy, first.values())))
        else []
    )


@torch.no_grad()
def _run(forward: Forward, device: str, feeds: Feeds) -> dict[str, NDArray[Any]]:
    """Run on arrays."""
    outputs = forward({name: torch.from_numpy(array).to(device) for name, array in feeds.items()})
    return {name: value.cpu().numpy() for name, value in outputs.items()}


def is_image(value: Tensor) -> bool:
    """Return whether an input may be a batch of images."""
    return value.ndim == 4 and value.is_floating_point() and min(value.shape[2:]) > 1


def _kept_bytes(forward: Forward, batch: Batch) -> int:
    """Return the bytes that a run keeps for its gradients, without the weights."""
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward(batch.feeds)
    return sum(storages.values())
