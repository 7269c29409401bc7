"""Metrics of numbers: ``mse``, ``mae``, ``r2``, ``cosine``. Outputs have as many as the targets."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.compression.measure.explained import Explained
from workers.compression.measure.metrics.meter import Sums, Unfit
from workers.compression.samples.channels import by_channel, candidates


def error(output: NDArray[Any], target: NDArray[Any], *, power: int) -> Sums:
    """Return the summed absolute error to a power, and the number of elements."""
    difference = output.astype(np.float64) - _alike(output, target)
    return np.array([np.sum(np.abs(difference) ** power), target.size], np.float64)


class Determination:
    """The coefficient of determination, R²: of each channel of the targets, then their mean.

    Equal to scikit-learn's ``r2_score`` for targets ``[samples]`` and ``[samples, C]``; channels of
    larger targets are those of ``Explained``. 0 where the targets do not vary.
    """

    def __init__(self) -> None:
        self._explained = Explained()

    def add(self, output: NDArray[Any], target: NDArray[Any]) -> None:
        """Count one sample."""
        self._explained.add(_alike(output, target), output)

    @property
    def value(self) -> float:
        """The coefficient over all samples so far."""
        return self._explained.value or 0.0


def cosine(output: NDArray[Any], target: NDArray[Any]) -> Sums:
    """Return the summed cosine of the angles between vectors, and the number of vectors.

    An embedding ``[1, C]`` is a vector; of more dimensions there is one along the channels for each
    position. Two zero vectors are alike, and one is like no other.
    """
    wanted = _alike(output, target)
    if wanted.size < 2:
        raise Unfit("a vector has two or more numbers")
    flat = [size for size in output.shape if size > 1]
    axis = candidates((1, *flat))[0] - 1
    given, wanted = (by_channel(each.reshape(flat), axis) for each in (output, wanted))
    given, wanted = (_unit(each.astype(np.float64)) for each in (given, wanted))
    along = np.sum(given * wanted, axis=0)
    alike = ~given.any(axis=0) & ~wanted.any(axis=0)
    return np.array([np.sum(np.where(alike, 1.0, along)), along.size], np.float64)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return columns at length 1; zeros where there are only zeros, or what is no number."""
    finite = np.where(np.isfinite(vectors).all(axis=0), vectors, 0.0)
    largest = np.abs(finite).max(axis=0)
    scaled = finite / np.where(largest > 0, largest, 1.0)
    unit: NDArray[np.float64] = scaled / np.maximum(np.linalg.norm(scaled, axis=0), 1.0)
    return unit


def _alike(output: NDArray[Any], target: NDArray[Any]) -> NDArray[Any]:
    """Return the targets in the output's shape."""
    if output.size != target.size or output.dtype.kind not in "fiub":
        raise Unfit(f"{output.size} numbers against {target.size}")
    return target.reshape(output.shape)
