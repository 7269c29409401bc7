"""Rows of a dataset as tensors, in runs that the graph and the memory allow."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.domain.problems import StepFailed
from workers.compression.graph.shapes import samples_fixed_by_inputs
from workers.compression.learning.augment import augment
from workers.compression.samples.context import Samples

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
        arrays, targets = self.samples.arrays, self.samples.targets
        filled = rows + rows[-1:] * (self.size - len(rows)) if self.fixed else rows
        feeds = {
            name: self._tensor(array[rows[0]] if self.samples.whole else array[filled])
            for name, array in arrays.items()
        }
        if random is not None and self.kinds:
            feeds = {
                name: augment(each, self.kinds, random) if is_image(each) else each
                for name, each in feeds.items()
            }
        wanted = None if targets is None else self._tensor(targets[rows])
        return Batch(feeds, wanted, rows)

    def outputs(self, forward: Forward, batch: Batch) -> Outputs:
        """Run a graph; return outputs of exactly the batch's samples, ``[samples, …]``."""
        outputs = forward(batch.feeds)
        if self.size == 1:
            return {
                name: value if value.ndim and value.shape[0] == 1 else value[None]
                for name, value in outputs.items()
            }
        return {name: value[: len(batch.rows)] for name, value in outputs.items()}

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        """Copy, so that a tensor's place in memory does not depend on where the array lay."""
        plain = np.ascontiguousarray(array)
        return torch.from_numpy(plain).clone().to(self.device)


def feed_for(
    model: ir.Model,
    forward: Forward,
    samples: Samples,
    device: str,
    kinds: Collection[str] = (),
) -> Feed:
    """Find out how many samples a graph takes at once.

    That many as its inputs are fixed to; one, where a row is a run or where two samples together do
    not give what each gives alone; else as many as fit into memory with what their gradients need.

    Args:
        model: the graph.
        forward: runs it.
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
    if samples.whole:
        return feed
    fixed = samples_fixed_by_inputs(model)
    if fixed is not None:
        return Feed(samples, device, fixed, fixed=True, kinds=feed.kinds)
    if not _batches(forward, feed):
        return feed
    room = _RUN_BYTES if device == "cpu" else torch.cuda.mem_get_info(device)[0] // 2
    most = max(1, room // max(1, _kept_bytes(forward, first)))
    return Feed(samples, device, most, fixed=False, kinds=feed.kinds)


def is_image(value: Tensor) -> bool:
    """Return whether an input may be a batch of images."""
    return value.ndim == 4 and value.is_floating_point() and min(value.shape[2:]) > 1


@torch.no_grad()
def _batches(forward: Forward, feed: Feed) -> bool:
    """Return whether two samples at once give what each gives alone."""
    rows = list(feed.samples.indices[:2])
    if len(rows) < 2:
        return False
    alone = [forward(feed.batch([row]).feeds) for row in rows]
    try:
        both = forward(feed.batch(rows).feeds)
    except (RuntimeError, ValueError, IndexError):
        return False
    return all(_same(both[name], [each[name] for each in alone]) for name in both)


def _same(both: Tensor, alone: Sequence[Tensor]) -> bool:
    if not both.ndim or both.shape[0] != 2 or any(not e.ndim or e.shape[0] != 1 for e in alone):
        return False
    single = torch.cat(list(alone)) if alone[0].shape == alone[1].shape else both[:0]
    if single.shape != both.shape:
        return False
    apart, together = single.double().nan_to_num(), both.double().nan_to_num()
    return bool((apart - together).abs().mean() <= 0.01 * apart.abs().mean() + 1e-6)


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
