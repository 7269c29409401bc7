"""Metrics of numbers: ``mse``, ``mae``, ``r2``, ``cosine``.

Outputs have as many elements as the targets.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.compression.measure.explained import Explained
from workers.compression.measure.metrics.meter import Sums, Unfit, other_size
from workers.compression.samples.channels import by_channel, candidates


def error(output: NDArray[Any], target: NDArray[Any], *, power: int) -> Sums:
    """Return the sum of the absolute errors raised to a power, and the number of elements."""
    difference = output.astype(np.float64) - _reshaped(output, target)
    return np.array([np.sum(np.abs(difference) ** power), target.size], np.float64)


class Determination:
    """The coefficient of determination, R²: the mean over the channels of the targets.

    Equal to scikit-learn's ``r2_score`` for targets ``[samples]`` and ``[samples, C]``; channels of
    larger targets are those of ``Explained``. 0 where the targets do not vary.
    """

    def __init__(self) -> None:
        self._explained = Explained()

    def add(self, output: NDArray[Any], target: NDArray[Any]) -> None:
        """Add one sample."""
        self._explained.add(_reshaped(output, target), output)

    @property
    def value(self) -> float:
        """The coefficient over all samples so far."""
        return self._explained.value or 0.0


def cosine(output: NDArray[Any], target: NDArray[Any]) -> Sums:
    """Return the summed cosine of the angles between vectors, and the number of vectors.

    An embedding ``[1, C]`` is one vector; an output of more dimensions has one vector of channels
    at each position. The cosine of two zero vectors is 1, that of one zero vector 0.
    """
    desired = _reshaped(output, target)
    if desired.size < 2:
        raise Unfit("a vector has two or more numbers")
    flat = [size for size in output.shape if size > 1]
    axis = candidates((1, *flat))[0] - 1
    predicted, desired = (by_channel(vectors.reshape(flat), axis) for vectors in (output, desired))
    predicted, desired = (_unit(vectors.astype(np.float64)) for vectors in (predicted, desired))
    cosines = np.sum(predicted * desired, axis=0)
    both_zero = ~predicted.any(axis=0) & ~desired.any(axis=0)
    return np.array([np.sum(np.where(both_zero, 1.0, cosines)), cosines.size], np.float64)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return columns scaled to length 1; zeros for columns of zeros, or with NaN or infinity."""
    finite = np.where(np.isfinite(vectors).all(axis=0), vectors, 0.0)
    largest = np.abs(finite).max(axis=0)
    scaled = finite / np.where(largest > 0, largest, 1.0)
    unit: NDArray[np.float64] = scaled / np.maximum(np.linalg.norm(scaled, axis=0), 1.0)
    return unit


def _reshaped(output: NDArray[Any], target: NDArray[Any]) -> NDArray[Any]:
    """Return the targets in the shape of the output."""
    if output.size != target.size or output.dtype.kind not in "fiub":
        raise other_size(output, target)
    return target.reshape(output.shape)
