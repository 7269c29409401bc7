"""Finds samples on which no loss can be computed: those that hold NaN or infinity."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.problems import StepFailed
from workers.compression.samples.context import Samples

_AT_ONCE = 1024
"""Samples that are checked together."""


def not_finite(samples: Samples) -> str | None:
    """Say which samples hold NaN or infinity, and what to do; None where none does.

    Args:
        samples: the samples that a graph is trained on.
    """
    named = {f"input '{name}'": array for name, array in samples.arrays.items()}
    if samples.targets is not None:
        named["the targets"] = samples.targets
    for name, array in named.items():
        rows = _rows(array, list(samples.indices))
        if rows:
            return (
                f"{len(rows)} of {len(samples)} samples hold NaN or infinity in {name}, sample"
                f" {rows[0]} is the first: take them out of the dataset, or replace these numbers."
            )
    return None


def require_number(loss: float, samples: Samples) -> None:
    """Raise StepFailed if the loss before training is not a number."""
    if not math.isfinite(loss):
        raise no_number(samples)


def no_number(samples: Samples) -> StepFailed:
    """Return the error of a loss, or gradient, that is not a number before training."""
    why = not_finite(samples) or (
        "the data are finite, so NaN or infinity arises in the model or in its teacher. Leave"
        " training out, or take samples on which that happens out of the dataset."
    )
    return StepFailed(f"The loss, or its gradient, is not a number before training: {why}")


def _rows(array: NDArray[Any], rows: list[int]) -> list[int]:
    """Return the rows that hold NaN or infinity."""
    if array.dtype.kind != "f":
        return []
    bad_rows = list[int]()
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        finite = np.isfinite(array[part]).reshape(len(part), -1).all(axis=1)
        bad_rows += [
            row for row, is_finite in zip(part, finite.tolist(), strict=True) if not is_finite
        ]
    return bad_rows
