"""Which samples train, which choose the best state, and how many make a step."""

import math

from app.domain.steps.recover import Recover
from workers.compression.learning.feed import Feed
from workers.compression.samples.split import split

_VALIDATION_SHARE = 0.1
_MOST_VALIDATION = 2000
_LEAST_SAMPLES = 20
"""With fewer, validation looks at what is trained on."""
_EPOCH_STEPS = 16
"""Steps that a small dataset should give in an epoch, if batches are not too small for it."""


def divide(feed: Feed, seed: int) -> tuple[list[int], list[int]]:
    """Return the rows to train on and those to choose the best state with: a tenth, by classes."""
    rows, targets = list(feed.samples.indices), feed.samples.targets
    if len(rows) < _LEAST_SAMPLES:
        return rows, rows
    own = None if targets is None else targets[rows]
    share = min(_VALIDATION_SHARE, _MOST_VALIDATION / len(rows))
    parts = split(len(rows), own, seed, share)
    return [rows[i] for i in parts.train], [rows[i] for i in parts.held_out]


def batch_size(feed: Feed, wish: Recover, samples: int) -> int:
    """Return how many samples a step takes: fewer of large ones, and of a small dataset.

    A step is made of whole runs where their size is fixed.
    """
    row = feed.samples.indices[0]
    each = sum(array[row].nbytes for array in feed.samples.arrays.values())
    most = 128 if each <= 1 << 14 else 64 if each <= 1 << 17 else 32
    size = wish.batch_size or min(most, max(8, samples // _EPOCH_STEPS))
    size = max(1, min(size, samples))
    return math.ceil(size / feed.size) * feed.size if feed.fixed else size
