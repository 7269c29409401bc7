"""Recognises probabilities: values of at least 0 that add up to 1."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-3
"""The tolerance for sums of probabilities."""


def are_probabilities(values: NDArray[Any], axis: int, tolerance: float = TOLERANCE) -> bool:
    """Return whether the values along an axis are at least 0 and sum up to 1.

    Positions that hold NaN, as rows of padding do, are ignored; at least one position must hold
    none.

    Args:
        values: floats of any shape.
        axis: the axis of the classes.
        tolerance: by how much sums may differ from 1.
    """
    with np.errstate(invalid="ignore"):  # infinities of both signs
        sums = values.sum(axis, dtype=np.float64)
    numbers = ~np.isnan(sums)
    if not numbers.any():
        return False
    sum_to_one = np.abs(np.where(numbers, sums, 1.0) - 1) < tolerance
    return bool(sum_to_one.all() and ((values >= 0).all(axis) | ~numbers).all())


def probabilities_axis(values: NDArray[Any], tolerance: float = TOLERANCE) -> int | None:
    """Return the axis along which an array holds probabilities, None where there is none.

    The last dimension is tried first, then the second.

    Args:
        values: floats ``[samples, …]``.
        tolerance: by how much sums may differ from 1.
    """
    for axis in dict.fromkeys((values.ndim - 1, 1)):
        several = 0 < axis < values.ndim and values.shape[axis] > 1
        if several and are_probabilities(values, axis, tolerance):
            return axis
    return None
