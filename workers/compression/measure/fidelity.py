"""How near a graph's outputs are to the original's, summed up sample by sample."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.reports import Fidelity, Worst
from workers.compression.measure.explained import Errors, Explained, finite
from workers.compression.samples.probabilities import probabilities_axis

_TOLERANCE = 0.01
_LEAST = 1e-30
_NUMBERS = "fiub"


def sqnr_db(signal: NDArray[Any], approximation: NDArray[Any]) -> float | None:
    """Return 10·log10 of signal over error power, None when the error is zero."""
    error = float(np.sum(np.square(signal - approximation), dtype=np.float64))
    if error == 0:
        return None
    power = float(np.sum(np.square(signal), dtype=np.float64))
    return round(10 * float(np.log10(max(power, 1e-300) / error)), 2)


def scores_axis(output: NDArray[Any]) -> int | None:
    """Return the axis of class scores in a sample's output, None where there are none.

    A vector ``[1, C]`` of floats, C > 1, is taken as such. Of more dimensions, floats that are
    probabilities are: one distribution for each position, along the last axis or the second.
    """
    if output.dtype.kind != "f" or output.ndim < 2:
        return None
    if output.ndim == 2:
        return 1 if output.shape[1] > 1 else None
    return probabilities_axis(output, _TOLERANCE)


class Profile:
    """What an output is like: its smallest and largest value, and where class scores are."""

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf
        self._axes = set[int | None]()

    def add(self, output: NDArray[Any]) -> None:
        """Take in one sample's output; what is not finite has no part in the range."""
        if not output.size:
            return
        self._axes.add(scores_axis(output))
        values = output[np.isfinite(output)] if output.dtype.kind == "f" else output
        if values.dtype.kind in "fiub" and values.size:
            self._low = min(self._low, float(values.min()))
            self._high = max(self._high, float(values.max()))

    @property
    def span(self) -> float:
        """Largest minus smallest; 0 when nothing was seen."""
        return max(self._high - self._low, 0.0)

    @property
    def axis(self) -> int | None:
        """The axis of class scores, if it is one and the same in all samples."""
        return next(iter(self._axes)) if len(self._axes) == 1 else None


class Nearness:
    """How near all outputs are to the original's, sample by sample.

    An output of strings, or of sequences, has no part in it.
    """

    def __init__(self) -> None:
        self._outputs: dict[str, Explained] = {}

    def add(self, original: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        """Compare one sample's outputs."""
        for name, wanted in original.items():
            if isinstance(wanted, np.ndarray) and wanted.dtype.kind in _NUMBERS:
                self._outputs.setdefault(name, Explained()).add(wanted, np.asarray(given[name]))

    @property
    def explained(self) -> float:
        """The share of the variance that is kept: a mean over channels, then over outputs.

        Outputs that do not vary are left out. Where none does, it is the share of their power.
        """
        return self._mean([output.value for output in self._outputs.values()])

    @property
    def choosing(self) -> float:
        """The same for those who choose among graphs: a channel that is lost is no more than lost.

        Noise has no bounds, and in channels that hardly vary it would outweigh all others.
        """
        return max(self._mean([output.floored for output in self._outputs.values()]), 0.0)

    def _mean(self, kept: Sequence[float | None]) -> float:
        varying = [value for value in kept if value is not None]
        if varying:
            return float(np.mean(varying))
        signal, noise = self._powers
        return finite(1 - noise / signal) if signal else float(noise == 0)

    @property
    def worst(self) -> Worst | None:
        """The channel that keeps the least; None where none varies."""
        found = [
            Worst(output=name, channel=output.worst.channel, explained=output.worst.explained)
            for name, output in self._outputs.items()
            if output.worst is not None
        ]
        return min(found, key=lambda each: each.explained, default=None)

    @property
    def sqnr_db(self) -> float | None:
        """10·log10 of signal over error power of all outputs; None when the error is zero."""
        signal, noise = self._powers
        if noise == 0:
            return None
        ratio = max(signal, _LEAST) / max(noise, _LEAST)
        return round(10 * float(np.log10(ratio)), 2)

    @property
    def _powers(self) -> tuple[float, float]:
        """Return the sums of squares and of squared errors; a miss costs a mean square."""
        totals = [output.total for output in self._outputs.values()]
        signal, noise, misses, places = np.sum([_sums(each) for each in totals] or [[0] * 4], 0)
        mean = signal / places if places else 0.0
        return float(signal), float(noise + misses * max(mean, _LEAST))


class Closeness:
    """All that is told of how near a graph is to the original.

    Args:
        output: the output that agreement is counted on.
        profile: what the original's is like on the same samples.
    """

    def __init__(self, output: str, profile: Profile) -> None:
        self._output, self._span, self._axis = output, profile.span, profile.axis
        self._nearness = Nearness()
        self._same = self._counted = 0

    def add(self, original: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        """Compare one sample's outputs; what is no finite number is right where it is the same."""
        self._nearness.add(original, given)
        expected, found = original[self._output], given[self._output]
        if not isinstance(expected, np.ndarray):
            return
        axis = self._axis
        self._counted += expected.size if axis is None else expected.size // expected.shape[axis]
        if expected.shape == np.shape(found):
            self._same += _agreeing(expected, found, axis, _TOLERANCE * self._span)

    @property
    def value(self) -> Fidelity:
        """The figures over all samples so far."""
        return Fidelity(
            sqnr_db=self._nearness.sqnr_db,
            agreement=self._same / self._counted if self._counted else 1.0,
            explained=self._nearness.explained,
            worst=self._nearness.worst,
            bounded="explained" if self._axis is None else "agreement",
        )


def _agreeing(
    expected: NDArray[Any], found: NDArray[Any], axis: int | None, tolerance: float
) -> int:
    """Return how many positions, or elements, say the same."""
    if expected.dtype.kind not in _NUMBERS:
        return int(np.sum(expected == found))
    if axis is not None:
        unknown = np.isnan(expected).any(axis) != np.isnan(found).any(axis)
        return int(np.sum((expected.argmax(axis) == found.argmax(axis)) & ~unknown))
    wanted, given = expected.astype(np.float64), found.astype(np.float64)
    both = np.isfinite(wanted) & np.isfinite(given)
    near = np.abs(np.subtract(wanted, given, where=both, out=np.zeros_like(wanted))) <= tolerance
    same = (wanted == given) | (np.isnan(wanted) & np.isnan(given))
    return int(np.sum(np.where(both, near, same)))


def _sums(errors: Errors) -> list[float]:
    moments = errors.moments
    signal = moments.squares + moments.count * np.square(moments.mean)
    return [float(x[0]) for x in (signal, errors.noise, errors.misses, moments.count)]
