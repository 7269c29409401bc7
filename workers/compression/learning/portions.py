"""Divides the training split: samples that train, samples that validate; and the batch size."""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from app.domain.steps.recover import Recover
from workers.compression.learning.feed import Feed
from workers.compression.samples.context import Samples
from workers.compression.samples.split import split

_CHOOSING_SHARE = 0.1
_MOST_CHOOSING = 2000
_LEAST_SAMPLES = 20
"""With fewer samples, states are validated on the training samples."""
_EPOCH_STEPS = 16
"""Steps that a small dataset should give in an epoch, if batches are not too small for it."""


@dataclass(frozen=True)
class Portions:
    """The rows of the training split by their purpose, each in random order."""

    training: list[int]
    choosing: list[int]
    """Validation rows, which choose the best state: a tenth, with the same share of each class."""
    comparing: list[int]
    """As many training rows, to measure how much better the network does on rows it was trained
    on."""

    def first(self, count: int) -> "Portions":
        """Return portions with at most ``count`` rows for choosing and for comparing."""
        return Portions(self.training, self.choosing[:count], self.comparing[:count])


def divide(feed: Feed, seed: int) -> Portions:
    """Divide the training split, always the same way for the same arguments."""
    rows, targets = list(feed.samples.indices), feed.samples.targets
    random = np.random.default_rng(seed)
    if len(rows) < _LEAST_SAMPLES:
        drawn = [rows[i] for i in random.permutation(len(rows))]
        return Portions(drawn, drawn, drawn)
    classes = None if targets is None else targets[rows]
    parts = split(len(rows), classes, seed, min(_CHOOSING_SHARE, _MOST_CHOOSING / len(rows)))
    training, choosing = (
        [rows[i] for i in random.permutation(part)] for part in (parts.train, parts.held_out)
    )
    return Portions(training, choosing, training[: len(choosing)])


def usual_batch(samples: Samples, count: int) -> int:
    """Return the default batch size: smaller for large samples, for few, and for made ones.

    Made samples are many alike, so that a training needs more steps on them.

    Args:
        samples: the dataset.
        count: the number of samples to train on.
    """
    row = samples.indices[0]
    nbytes = sum(array[row].nbytes for array in samples.arrays.values())
    most = 128 if nbytes <= 1 << 14 else 64 if nbytes <= 1 << 17 else 32
    if samples.made:
        most = 32
    return min(most, max(8, count // _EPOCH_STEPS))


def batch_size(feed: Feed, settings: Recover, samples: int) -> int:
    """Return the batch size that is asked for, or the usual one.

    Where the size of a run is fixed, a batch is made of whole runs.
    """
    size = settings.batch_size or usual_batch(feed.samples, samples)
    size = max(1, min(size, samples))
    return math.ceil(size / feed.size) * feed.size if feed.fixed else size


def batches(feed: Feed, rows: list[int], size: int) -> list[list[int]]:
    """Divide rows into batches that are as equal as possible, none larger than ``size``.

    A remainder would be a small batch, which has as much weight as a full one and coarse batch
    statistics. Where the size of a run is fixed, batches are made of whole runs.
    """
    unit = feed.size if feed.fixed else 1
    units, count = math.ceil(len(rows) / unit), math.ceil(len(rows) / size)
    edges = [units * index // count * unit for index in range(count + 1)]
    return [rows[first:end] for first, end in itertools.pairwise(edges)]
