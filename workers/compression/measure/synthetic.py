"""Samples for a model without a dataset: seeded random inputs that it accepts."""

from pathlib import Path

import numpy as np

from app.domain.problems import DatasetMismatch
from workers.compression.graph.equivalence import Trial, find_trials, random_feeds
from workers.compression.graph.load import load
from workers.compression.samples.context import Feeds, Samples

_RUNS = 16


def draw(original: Path, seed: int) -> Samples:
    """Draw inputs of the sizes that the model is known to accept.

    Raises:
        DatasetMismatch: it accepted none of those that were tried.
    """
    model = load(original)
    trials = find_trials(model, original, seed)
    if not trials:
        raise DatasetMismatch(
            "The model accepts none of the random inputs that were tried, or answers differently"
            " each time, so nothing can be measured without data: name a dataset."
        )
    bound = _bound(trials[0])
    runs = [random_feeds(model, trials[0].sizes, seed + i, bound) for i in range(_RUNS)]
    whole = not _counted_first(runs[0])
    join = np.stack if whole else np.concatenate
    arrays = {name: join([feeds[name] for feeds in runs]) for name in runs[0]}
    return Samples(arrays, None, range(len(next(iter(arrays.values())))), whole=whole)


def _bound(trial: Trial) -> int:
    """Return an exclusive upper bound of the integers that the model accepted."""
    greatest = [int(a.max()) for a in trial.feeds.values() if a.dtype.kind in "iu" and a.size]
    return max(greatest, default=1) + 1


def _counted_first(feeds: Feeds) -> bool:
    """Return whether all inputs have the same first dimension: the batch."""
    sizes = {array.shape[0] if array.ndim else None for array in feeds.values()}
    return len(sizes) == 1 and None not in sizes
