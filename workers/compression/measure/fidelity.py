"""How near a graph's outputs are to the original's, summed up sample by sample."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.reports import Fidelity
from workers.compression.samples.probabilities import probabilities_axis

_TOLERANCE = 0.01
_LEAST = 1e-30


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


class Closeness:
    """Agreement of one output and the signal-to-noise ratio of all.

    Args:
        output: the output that agreement is counted on.
        profile: what the original's is like on the same samples.
    """

    def __init__(self, output: str, profile: Profile) -> None:
        self._output, self._span, self._axis = output, profile.span, profile.axis
        self._signal = self._noise = 0.0
        self._same = self._counted = 0

    def add(self, original: Mapping[str, NDArray[Any]], given: Mapping[str, NDArray[Any]]) -> None:
        """Compare one sample's outputs. What is not a finite number counts as 0."""
        for name, expected in original.items():
            if expected.dtype.kind not in "fiub":
                continue
            wanted, found = _numbers(expected), _numbers(given[name])
            if wanted.shape != found.shape:
                found = np.zeros_like(wanted)
            self._signal += float(np.sum(np.square(wanted)))
            self._noise += float(np.sum(np.square(wanted - found)))
        self._agree(original[self._output], given[self._output])

    def _agree(self, expected: NDArray[Any], found: NDArray[Any]) -> None:
        axis = self._axis
        self._counted += expected.size if axis is None else expected.size // expected.shape[axis]
        if expected.shape != found.shape:
            return
        if axis is not None:
            self._same += int(np.sum(expected.argmax(axis) == found.argmax(axis)))
            return
        if expected.dtype.kind not in "fiub":
            self._same += int(np.sum(expected == found))
            return
        near = np.abs(_numbers(expected) - _numbers(found)) <= _TOLERANCE * self._span
        self._same += int(np.sum(near))

    @property
    def value(self) -> Fidelity:
        """The figures over all samples so far."""
        agreement = self._same / self._counted if self._counted else 1.0
        if self._noise == 0:
            return Fidelity(sqnr_db=None, agreement=agreement)
        ratio = max(self._signal, _LEAST) / max(self._noise, _LEAST)
        return Fidelity(sqnr_db=round(10 * float(np.log10(ratio)), 2), agreement=agreement)


def _numbers(array: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(array.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
