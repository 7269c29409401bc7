"""Splits samples: some train and calibrate, the others are held out to judge the result."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.problems import InvalidDataset

HELD_OUT = 0.2
"""Share of the samples that no step may see."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Two disjoint, sorted sets of sample indices that cover the dataset."""

    train: Indices
    held_out: Indices


def split(samples: int, targets: NDArray[Any] | None, seed: int, share: float = HELD_OUT) -> Split:
    """Split a dataset, the same way for the same arguments.

    Shuffled samples are sorted by class and every ``1/share``-th is held out (systematic
    sampling), so that each class keeps its share to within one sample.

    Args:
        samples: the number of samples.
        targets: integers of shape ``[samples]`` to stratify by; any others are ignored.
        seed: seed of the shuffle.
        share: the share of held-out samples; each part gets at least one sample.

    Raises:
        InvalidDataset: fewer than two samples.
    """
    if samples < 2:
        raise InvalidDataset(
            "The dataset holds fewer than two samples: one must be held out to judge the result."
        )
    order = np.random.default_rng(seed).permutation(samples).astype(np.int64)
    if targets is not None and targets.ndim == 1 and targets.dtype.kind in "iub":
        order = order[np.argsort(targets[order], kind="stable")]
    steps = np.floor(np.arange(samples + 1) * share)
    held = steps[1:] > steps[:-1]
    if not held.any():
        held[-1] = True
    if held.all():
        held[0] = False
    return Split(np.sort(order[~held]), np.sort(order[held]))
