"""Explained variance: the share of the variance of an array that another one keeps.

Of labels, which have no distance, it is the share of equal ones.
"""

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.compression.samples.channels import Array, Moments, by_channel, candidates, clearest

_LEAST = -1e12
"""The lowest share in a report, as reports hold finite numbers."""


_LABEL_BYTES = 4
"""The least size of an integer that is a label: smaller ones are pixels, or quantized values."""

_WORDS = "OSU"
"""The kinds of arrays of words, as numpy names them."""

_SUMS = ("noise", "misses", "strays", "alike")
"""The attributes of ``Errors`` that are sums."""


def are_labels(values: NDArray[Any]) -> bool:
    """Return whether an output holds labels: values that are equal or not, and have no distance.

    Integers of 32 or 64 bits, as ArgMax and TopK give them, truth values and words are labels.
    """
    kind = values.dtype.kind
    whole = kind in "iu" and values.dtype.itemsize >= _LABEL_BYTES
    return whole or kind == "b" or kind in _WORDS


class Weakest(NamedTuple):
    """The channel with the smallest explained variance."""

    channel: int | None
    """Its index along the axis of channels; None where all values are one channel."""
    explained: float
    others: float | None
    """The mean without it; None where no other channel varies."""


class Errors:
    """Sums of squared errors and variances, for each channel."""

    def __init__(self, channels: int) -> None:
        self.moments = Moments(channels)
        self.noise = np.zeros(channels)
        """Squared differences, where both are finite numbers."""
        self.misses, self.strays, self.alike = np.zeros((3, channels))
        """Counts of elements: mismatches of NaN or infinity; those of them where the expected
        value is not finite; and elements where both are the same NaN or infinity."""

    def add(self, expected: Array, actual: Array) -> None:
        """Add expected and actual values ``[C, n]``."""
        with np.errstate(over="ignore", invalid="ignore"):
            self._add(expected, actual)

    def _add(self, expected: Array, actual: Array) -> None:
        numbers = np.isfinite(expected)
        both = numbers & np.isfinite(actual)
        if both.all():
            self.moments.add(expected)
            self.noise += np.square(actual - expected).sum(1)
            return
        same_not_finite = ~numbers & (
            (expected == actual) | (np.isnan(expected) & np.isnan(actual))
        )
        self.moments.add(expected, numbers)
        self.noise += np.square(np.where(both, actual - expected, 0.0)).sum(1)
        self.misses += (~both & ~same_not_finite).sum(1)
        self.strays += (~numbers & ~same_not_finite).sum(1)
        self.alike += same_not_finite.sum(1)

    def merge(self, other: "Errors") -> None:
        """Add the elements of another one with as many channels."""
        self.moments.merge(other.moments)
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def together(self) -> "Errors":
        """The sums of all channels taken as one."""
        merged = Errors(1)
        merged.moments = self.moments.together
        for name in _SUMS:
            setattr(merged, name, getattr(self, name).sum(keepdims=True))
        return merged

    def shares(self) -> tuple[NDArray[np.int64], Array]:
        """Return the channels that vary or have a mismatch, and the explained variance of each."""
        moments = self.moments
        varies = moments.varies
        lost = self.misses + np.divide(
            self.noise, moments.variance, where=varies, out=np.zeros_like(self.noise)
        )
        places = moments.count + self.strays + np.where(varies, 0, self.alike)
        counted = np.flatnonzero(varies | (self.misses > 0))
        shares: Array = 1 - lost[counted] / places[counted]
        return counted, shares


class Explained:
    """The share of the variance of an array that another one keeps, over many samples.

    ``1 − Σ(given − wanted)² / Σ(wanted − mean)²`` for each channel: 1 means equal, 0 as good as
    the mean, below 0 worse than the mean. Which axis counts channels is said in
    ``samples/channels.py``; memory grows with its length alone. Where the expected value is NaN or
    infinity, the actual value must be the same. A mismatch there, or NaN or infinity where a
    finite value is expected, costs as much as the mean would cost. So does a label that differs:
    1 means that all are equal, 0 that none is.
    """

    def __init__(self) -> None:
        self.axes = dict[int | None, Errors]()
        """The errors of each channel, by the axes that may count channels."""
        self.rank: int | None = None
        """The rank of the arrays; None before the first sample."""

    def add(self, expected: NDArray[Any], actual: NDArray[Any]) -> None:
        """Compare one sample's arrays, and add their errors.

        Args:
            expected: the original's array, ``[1, …]``.
            actual: the other graph's; if its shape differs, all of its values count as mismatches.
        """
        target = _as_numbers(expected)
        if actual.shape != expected.shape:
            answer = np.full_like(target, np.nan)
            target = np.where(np.isnan(target), np.inf, target)
        elif are_labels(expected):
            answer = np.where(actual == expected, target, np.nan)
        else:
            answer = actual.astype(np.float64)
        if self.rank is None:
            self.rank = target.ndim
            axes = candidates(target.shape)
            self.axes = {axis: Errors(target.shape[axis]) for axis in axes} or {None: Errors(1)}
        self._keep_constant(target.shape)
        for axis, errors in self.axes.items():
            errors.add(by_channel(target, axis), by_channel(answer, axis))

    def merge(self, other: "Explained") -> None:
        """Add the samples of another one; axes that one of both has dropped are dropped."""
        if other.rank is None:
            return
        if self.rank is None:
            self.rank = other.rank
            self.axes = {axis: Errors(len(errors.noise)) for axis, errors in other.axes.items()}
        shared = [axis for axis in self.axes if _same_length(self.axes, other.axes, axis)]
        if shared:
            self.axes = {axis: self.axes[axis] for axis in shared}
            for axis in shared:
                self.axes[axis].merge(other.axes[axis])
        else:
            self.axes = {None: self.total}
            self.axes[None].merge(other.total)

    def _keep_constant(self, shape: tuple[int, ...]) -> None:
        """Drop axes whose length changes from sample to sample: they hold no channels."""
        fits = {
            axis: errors
            for axis, errors in self.axes.items()
            if axis is None or (len(shape) == self.rank and shape[axis] == len(errors.noise))
        }
        self.axes = fits or {None: next(iter(self.axes.values())).together}

    @property
    def value(self) -> float | None:
        """The mean over the channels that vary; None where no channel varies."""
        shares = self._shares()[1]
        return finite(shares.mean()) if len(shares) else None

    @property
    def floored(self) -> float | None:
        """The same mean, with 0 in place of negative shares."""
        shares = np.maximum(self._shares()[1], 0)
        return float(shares.mean()) if len(shares) else None

    @property
    def worst(self) -> Weakest | None:
        """The channel with the smallest share; None where no channel varies."""
        channels, shares = self._shares()
        if not len(shares):
            return None
        place = int(np.argmin(shares))
        others = np.delete(shares, place)
        return Weakest(
            None if channels is None else int(channels[place]),
            finite(shares[place]),
            finite(others.mean()) if len(others) else None,
        )

    @property
    def total(self) -> Errors:
        """The errors of all channels taken as one."""
        return next(iter(self.axes.values())).together if self.axes else Errors(1)

    def _shares(self) -> tuple[NDArray[np.int64] | None, Array]:
        """Return the channels that vary, each with its share; a single channel has no index.

        Where each channel has a single value (one sample of ``[1, C]``), all are one channel.
        """
        if not self.axes:
            return None, np.zeros(0)
        along = [errors.moments for errors in self.axes.values()]
        axis, errors = list(self.axes.items())[clearest(along, self.rank or 0)]
        if axis is None or errors.moments.count.max(initial=0) < 2:
            return None, errors.together.shares()[1]
        return errors.shares()


def _as_numbers(values: NDArray[Any]) -> Array:
    """Return values as numbers; words as numbers from -1 to 1, equal where the words are."""
    if values.dtype.kind not in _WORDS:
        return values.astype(np.float64)
    sums = [zlib.crc32(str(word).encode()) for word in values.flat]
    return np.array(sums, np.float64).reshape(values.shape) / 2**31 - 1


def _same_length(
    first: Mapping[int | None, Errors], second: Mapping[int | None, Errors], axis: int | None
) -> bool:
    """Return whether both have as many channels along an axis."""
    return axis in second and len(first[axis].noise) == len(second[axis].noise)


def finite(share: float) -> float:
    """Return a share as reports may hold it: clipped to a finite number."""
    return float(share) if share >= _LEAST else _LEAST
