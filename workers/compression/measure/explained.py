"""How much of what is wanted is given: the share of its variance, channel by channel."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.compression.samples.channels import Array, Moments, by_channel, candidates, clearest

_LEAST = -1e12
"""The lowest share that is told: reports hold finite numbers."""


class Weakest(NamedTuple):
    """The channel that keeps the least."""

    channel: int | None
    """Its place along the axis of channels; None where all values are one channel."""
    explained: float


class Errors:
    """What is wanted of each channel, and by how much it is missed."""

    def __init__(self, channels: int) -> None:
        self.moments = Moments(channels)
        self.noise = np.zeros(channels)
        """Squared differences, where both are finite numbers."""
        self.misses, self.strays, self.alike = np.zeros((3, channels))
        """Places that are missed; those of them where no number is wanted; where none is given
        either."""

    def add(self, wanted: Array, given: Array) -> None:
        """Compare values ``[C, n]``."""
        with np.errstate(over="ignore", invalid="ignore"):
            self._add(wanted, given)

    def _add(self, wanted: Array, given: Array) -> None:
        numbers = np.isfinite(wanted)
        both = numbers & np.isfinite(given)
        if both.all():
            self.moments.add(wanted)
            self.noise += np.square(given - wanted).sum(1)
            return
        same = ~numbers & ((wanted == given) | (np.isnan(wanted) & np.isnan(given)))
        self.moments.add(wanted, numbers)
        self.noise += np.square(np.where(both, given - wanted, 0.0)).sum(1)
        self.misses += (~both & ~same).sum(1)
        self.strays += (~numbers & ~same).sum(1)
        self.alike += same.sum(1)

    @property
    def together(self) -> "Errors":
        """All channels as one."""
        whole = Errors(1)
        whole.moments = self.moments.together
        for name in ("noise", "misses", "strays", "alike"):
            setattr(whole, name, getattr(self, name).sum(keepdims=True))
        return whole

    def shares(self) -> tuple[NDArray[np.int64], Array]:
        """Return the channels that vary, or that miss something, and what each keeps."""
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
    """The share of the variance of one array that another keeps, over many samples.

    ``1 − Σ(given − wanted)² / Σ(wanted − mean)²`` for each channel: 1 is equal, 0 is as good as the
    mean, below 0 is noise. Which axis counts channels is said in ``samples/channels.py``; memory
    grows with its length alone. Where what is wanted is no finite number, the same must be given
    (NaN for NaN, an infinity for the same one). A miss there, or anything but a finite number where
    one is wanted, costs what the mean would cost.
    """

    def __init__(self) -> None:
        self._axes = dict[int | None, Errors]()
        self._rank: int | None = None

    def add(self, wanted: NDArray[Any], given: NDArray[Any]) -> None:
        """Compare one sample's arrays ``[1, …]``; one of another shape is all misses."""
        target = wanted.astype(np.float64)
        if given.shape == wanted.shape:
            answer = given.astype(np.float64)
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
        """Forget axes whose length changes from sample to sample: no channels lie along them."""
        fits = {
            axis: errors
            for axis, errors in self._axes.items()
            if axis is None or (len(shape) == self._rank and shape[axis] == len(errors.noise))
        }
        self._axes = fits or {None: next(iter(self._axes.values())).together}

    @property
    def value(self) -> float | None:
        """The mean over the channels that vary; None where none does."""
        shares = self._shares()[1]
        return finite(shares.mean()) if len(shares) else None

    @property
    def floored(self) -> float | None:
        """The same with 0 for channels that are noise."""
        shares = np.maximum(self._shares()[1], 0)
        return float(shares.mean()) if len(shares) else None

    @property
    def worst(self) -> Weakest | None:
        """The channel that keeps the least; None where none varies."""
        channels, shares = self._shares()
        if not len(shares):
            return None
        place = int(np.argmin(shares))
        return Weakest(None if channels is None else int(channels[place]), finite(shares[place]))

    @property
    def total(self) -> Errors:
        """All errors as those of one channel."""
        return next(iter(self._axes.values())).together if self._axes else Errors(1)

    def _shares(self) -> tuple[NDArray[np.int64] | None, Array]:
        """Return the channels that vary, and what each keeps; one channel alone has no number.

        Where no channel was seen twice (one sample of ``[1, C]``), all are one.
        """
        if not self._axes:
            return None, np.zeros(0)
        along = [errors.moments for errors in self._axes.values()]
        axis, errors = list(self._axes.items())[clearest(along, self._rank or 0)]
        if axis is None or errors.moments.count.max(initial=0) < 2:
            return None, errors.together.shares()[1]
        return errors.shares()


def finite(share: float) -> float:
    """Return a share as reports may hold it: a finite number."""
    return float(share) if share >= _LEAST else _LEAST
