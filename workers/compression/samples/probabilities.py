"""Where an array holds probabilities: no smaller than 0, and adding up to 1."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-3
"""By how much sums may differ from 1."""


def are_probabilities(values: NDArray[Any], axis: int, tolerance: float = TOLERANCE) -> bool:
    """Return whether the values along an axis are at least 0 and sum up to 1.

    Where they are not all numbers, as in rows of padding, nothing is asked; but somewhere they are.

    Args:
        values: floats of any shape.
        axis: of the classes.
        tolerance: by how much sums may differ from 1.
    """
    with np.errstate(invalid="ignore"):  # infinities of both signs
        sums = values.sum(axis, dtype=np.float64)
    known = ~np.isnan(sums)
    if not known.any():
        return False
    near = np.abs(np.where(known, sums, 1.0) - 1) < tolerance
    return bool(near.all() and ((values >= 0).all(axis) | ~known).all())


def probabilities_axis(values: NDArray[Any], tolerance: float = TOLERANCE) -> int | None:
    """Return the axis along which an array holds probabilities, None where there is none.

    Classes are looked for in the last dimension, then in the second.

    Args:
        values: floats ``[samples, …]``.
        tolerance: by how much sums may differ from 1.
    """
    for axis in dict.fromkeys((values.ndim - 1, 1)):
        several = 0 < axis < values.ndim and values.shape[axis] > 1
        if several and are_probabilities(values, axis, tolerance):
            return axis
    return None
