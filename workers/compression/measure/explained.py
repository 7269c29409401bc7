"""Explained variance: the share of the variance of an array that another one keeps."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.compression.samples.channels import Array, Moments, by_channel, candidates, clearest

_LEAST = -1e12
"""The lowest share in a report, as reports hold finite numbers."""


class Weakest(NamedTuple):
    """The channel with the smallest explained variance."""

    channel: int | None
    """Its index along the axis of channels; None where all values are one channel."""
    explained: float


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

    @property
    def together(self) -> "Errors":
        """The sums of all channels taken as one."""
        merged = Errors(1)
        merged.moments = self.moments.together
        for name in ("noise", "misses", "strays", "alike"):
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
    finite value is expected, costs as much as the mean would cost.
    """

    def __init__(self) -> None:
        self._axes = dict[int | None, Errors]()
        self._rank: int | None = None

    def add(self, expected: NDArray[Any], actual: NDArray[Any]) -> None:
        """Add one sample's arrays ``[1, …]``; another shape counts as all mismatches."""
        target = expected.astype(np.float64)
        if actual.shape == expected.shape:
            answer = actual.astype(np.float64)
        else:
            answer = np.full_like(target, np.nan)
            target = np.where(np.isnan(target), np.inf, target)
        if self._rank is None:
            self._rank = target.ndim
            axes = candidates(target.shape)
            self._axes = {axis: Errors(target.shape[axis]) for axis in axes} or {None: Errors(1)}
        self._keep_constant(target.shape)
        for axis, errors in self._axes.items():
            errors.add(by_channel(target, axis), by_channel(answer, axis))

    def _keep_constant(self, shape: tuple[int, ...]) -> None:
        """Drop axes whose length changes from sample to sample: they hold no channels."""
        fits = {
            axis: errors
            for axis, errors in self._axes.items()
            if axis is None or (len(shape) == self._rank and shape[axis] == len(errors.noise))
        }
        self._axes = fits or {None: next(iter(self._axes.values())).together}

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
        return Weakest(None if channels is None else int(channels[place]), finite(shares[place]))

    @property
    def total(self) -> Errors:
        """The errors of all channels taken as one."""
        return next(iter(self._axes.values())).together if self._axes else Errors(1)

    def _shares(self) -> tuple[NDArray[np.int64] | None, Array]:
        """Return the channels that vary, each with its share; a single channel has no index.

        Where each channel has a single value (one sample of ``[1, C]``), all are one channel.
        """
        if not self._axes:
            return None, np.zeros(0)
        along = [errors.moments for errors in self._axes.values()]
        axis, errors = list(self._axes.items())[clearest(along, self._rank or 0)]
        if axis is None or errors.moments.count.max(initial=0) < 2:
            return None, errors.together.shares()[1]
        return errors.shares()


def finite(share: float) -> float:
    """Return a share as reports may hold it: clipped to a finite number."""
    return float(share) if share >= _LEAST else _LEAST
