"""Finds the axis of channels of an array: values along it may have different units.

A detector gives boxes in pixels beside scores from 0 to 1, a regressor a temperature beside a
pressure: errors of one mean nothing to the other. Shapes say where such things lie, by convention:

- ``[N]`` and ``[N, 1]`` are one channel, ``[N, C]`` are C.
- ``[N, positions, C]`` have them last, as a table of boxes ``[N, 8400, 85]`` or what a transformer
  gives, unless the last axis is more than eight times as long: ``[N, 85, 8400]``. Equal sides are a
  picture of one channel, ``[N, H, W]``.
- Pictures have them second, ``[N, C, H, W]``, unless the equal sides of a picture come before the
  last axis, ``[N, H, W, C]`` and ``[N, anchors, H, W, C]``, or the last axis is less than half as
  long as all others.

Conventions fail. So where two axes are possible, except for pictures, the values decide: the
second candidate is taken if its coding gain is much larger. The coding gain (Jayant & Noll 1984)
is the logarithm of the variance of all values over the geometric mean of the channels' variances.
It is large where channels have different units. Where it is small for both axes, the choice
matters little. For pictures it says nothing: pixels near the edge may vary less than others.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LONG = 8
"""The last axis counts positions if it is this many times longer than the one before it."""
_SHORT = 2
"""The last axis counts a picture's channels if it is this many times shorter than all others."""

_CLEARER = {3: np.log(1.5), 5: np.log(100.0)}
"""How much larger the coding gain of the second candidate must be, by rank."""

_LEAST = 1e-4
"""The least variance of a channel that errors are divided by, as a share of the 10th
percentile."""

_CONSTANT = 2.0**-18
"""A channel varies if its standard deviation is more than this share of its magnitude: below it
there is nothing but rounding. A float32 is rounded by up to 2⁻²⁴ of its magnitude, and the sum of
some thousand numbers, or one that is much smaller than its terms, by several times that."""


def candidates(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the axes of one sample's array that may count channels, the likeliest first.

    Args:
        shape: ``[1, …]``. Where the first dimension is longer and the second is 1, samples lie
            along the second.

    Returns:
        One axis or two; none where there is but one channel.
    """
    rank = len(shape)
    if rank < 3:
        return (1,) if rank == 2 else ()
    if shape[0] > 1 and shape[1] == 1:
        return (rank - 1,)
    if rank > 3:
        return _of_picture(shape)
    if shape[1] == shape[2]:
        return ()
    return (1, 2) if shape[2] > _LONG * shape[1] else (2, 1)


def _of_picture(shape: Sequence[int]) -> tuple[int, ...]:
    last = len(shape) - 1
    if shape[-1] == shape[-2]:
        return (1,)
    if shape[-3] == shape[-2]:
        return (last,)
    likely = last if _SHORT * shape[-1] <= min(shape[1:-1]) else 1
    return (likely,) if last == 3 else (likely, last + 1 - likely)


class Moments:
    """Running count, mean and sum of squared deviations of each channel.

    Batches are merged as Chan, Golub & LeVeque (1979) do, so that no digits are lost where a mean
    is far from 0.

    Attributes:
        count: the number of values of each channel, ``[C]``.
        mean: their mean, ``[C]``.
        squares: the sum of their squared differences to the mean, ``[C]``.
    """

    def __init__(self, channels: int) -> None:
        self.count, self.mean, self.squares = np.zeros((3, channels))

    def add(self, values: Array, counted: NDArray[np.bool_] | None = None) -> None:
        """Add values ``[C, n]``; with a mask ``counted``, only those where it is True."""
        if counted is None:
            count = np.full(len(values), float(values.shape[1]))
            mean = values.mean(1) if values.shape[1] else np.zeros(len(values))
            squares = np.square(values - mean[:, None]).sum(1)
        else:
            count = counted.sum(1).astype(np.float64)
            mean = np.where(counted, values, 0.0).sum(1) / np.maximum(count, 1)
            squares = np.square(np.where(counted, values - mean[:, None], 0.0)).sum(1)
        self._merge(count, mean, squares)

    def merge(self, other: "Moments") -> None:
        """Add the values of another one with as many channels."""
        self._merge(other.count, other.mean, other.squares)

    def _merge(self, count: Array, mean: Array, squares: Array) -> None:
        total = np.maximum(self.count + count, 1)
        shift = mean - self.mean
        self.squares += squares + np.square(shift) * self.count * count / total
        self.mean += shift * count / total
        self.count += count

    @property
    def variance(self) -> Array:
        """Mean squared difference to the mean, ``[C]``."""
        spread: Array = self.squares / np.maximum(self.count, 1)
        return spread

    @property
    def varies(self) -> NDArray[np.bool_]:
        """Whether a channel's values differ by more than rounding, ``[C]``."""
        magnitude = np.square(self.mean) + self.variance
        different: NDArray[np.bool_] = self.variance > _CONSTANT**2 * magnitude
        return different

    @property
    def together(self) -> "Moments":
        """The moments of all channels taken as one."""
        merged = Moments(1)
        count = self.count.sum()
        mean = (self.count * self.mean).sum() / max(count, 1)
        between = self.count * np.square(self.mean - mean)
        merged.count[:], merged.mean[:] = count, mean
        merged.squares[:] = (self.squares + between).sum()
        return merged

    @property
    def gain(self) -> float:
        """The coding gain of scaling each channel by itself; 0 for a single channel."""
        variances = self.variance[self.varies]
        if not len(variances):
            return 0.0
        return float(np.log(self.together.variance[0]) - np.log(variances).mean())


def clearest(along: Sequence[Moments], rank: int) -> int:
    """Return the index, among the candidate axes, of the axis of channels.

    Args:
        along: the moments of the channels along each axis of ``candidates``.
        rank: the rank of the array.
    """
    if len(along) < 2:
        return 0
    first, second = (moments.gain for moments in along)
    return int(second > first + _CLEARER[min(rank, max(_CLEARER))])


def by_channel(values: NDArray[Any], axis: int | None) -> NDArray[Any]:
    """Return an array as ``[channels, everything else]``; without an axis it is one channel."""
    if axis is None:
        return values.reshape(1, -1)
    channels = np.moveaxis(values, axis, 0)
    return channels.reshape(len(channels), prod(channels.shape[1:]))


def channels_of(values: NDArray[Any]) -> tuple[int | None, Moments]:
    """Return the axis of channels of an array ``[N, …]``, and the moments of its channels.

    The axis is None where all values are one channel. NaN and infinity are not counted.
    """
    axes: Sequence[int | None] = candidates((1, *values.shape[1:])) or (None,)
    by_axis = []
    for axis in axes:
        rows = by_channel(values, axis).astype(np.float64)
        moments, finite = Moments(len(rows)), np.isfinite(rows)
        moments.add(rows, None if finite.all() else finite)
        by_axis.append(moments)
    chosen = clearest(by_axis, values.ndim)
    return axes[chosen], by_axis[chosen]


def channel_variances(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return the variance of each channel of ``[N, …]``, as ``[1, …]`` that spreads over it.

    Errors are divided by these variances, so a channel that hardly varies would outweigh all
    others: each variance is raised to a small share of the 10th percentile of those that vary.
    Where nothing varies it is 1.
    """
    axis, moments = channels_of(values)
    varying = moments.variance[moments.varies]
    usual = float(np.quantile(varying, 0.1, method="lower")) if len(varying) else 1.0
    variances = np.where(moments.varies, np.maximum(moments.variance, _LEAST * usual), usual)
    shape = [-1 if place == axis else 1 for place in range(values.ndim)]
    return variances.astype(np.float32).reshape(shape if axis is not None else [1] * values.ndim)
