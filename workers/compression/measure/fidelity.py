"""Fidelity: how near a graph's outputs are to the original's, summed up sample by sample."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.reports import Fidelity, OutputKept, Worst
from workers.compression.measure.explained import Errors, Explained, are_labels, finite
from workers.compression.samples.probabilities import probabilities_axis

_TOLERANCE = 0.01
"""How far values may be apart and agree, as a share of the range of the original's output; and how
far the sum of probabilities may be from 1."""

_LEAST = 1e-30
"""The least power that is divided by."""

_MOST_ANSWERS = 1 << 16
"""The greatest number of different answers that are counted; of more, the rarest are forgotten."""

_MOST_BESIDE = 8
"""The most outputs whose shares a report has one by one."""

_ONE_FOR_NEARLY_ALL = 0.9
"""Where the original gives one answer to more than this share of the samples, equal answers say too
little: a graph that always gives that one would lose less than a bound may allow."""


def sqnr_db(signal: NDArray[Any], approximation: NDArray[Any]) -> float | None:
    """Return 10·log10 of signal over error power, None when the error is zero.

    What is not finite in the signal does not count.
    """
    counted = np.isfinite(signal)
    kept = signal[counted]
    error = float(np.sum(np.square(kept - approximation[counted]), dtype=np.float64))
    if error == 0:
        return None
    power = float(np.sum(np.square(kept), dtype=np.float64))
    return round(10 * float(np.log10(max(power / error, _LEAST))), 2)


def scores_axis(output: NDArray[Any]) -> int | None:
    """Return the axis of class scores in a sample's output, None where there are none.

    A vector ``[1, C]`` of floats with C > 1 is taken for class scores. An output of more
    dimensions is taken for class scores only if it holds probabilities along its last or its
    second axis.
    """
    if output.dtype.kind != "f" or output.ndim < 2:
        return None
    if output.ndim == 2:
        return 1 if output.shape[1] > 1 else None
    return probabilities_axis(output, _TOLERANCE)


class Profile:
    """What an output of the original is like: its range, and the answers that it holds.

    Answers are labels, or the arg-max of class scores.
    """

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf
        self._axes = set[int | None]()
        self._labels = False
        self._answers = Counter[Hashable]()
        self._answered = 0

    def add(self, output: NDArray[Any]) -> None:
        """Add one sample's output; NaN and infinity are not part of the range."""
        self._labels = are_labels(output)
        if not output.size:
            return
        axis = scores_axis(output)
        self._axes.add(axis)
        if self._labels or axis is not None:
            self._count(output if axis is None else output.argmax(axis))
        values = output[np.isfinite(output)] if output.dtype.kind == "f" else output
        if values.dtype.kind in "fiub" and values.size:
            self._low = min(self._low, float(values.min()))
            self._high = max(self._high, float(values.max()))

    def _count(self, answers: NDArray[Any]) -> None:
        """Count answers, in bounded memory."""
        different, counts = np.unique(answers, return_counts=True)
        self._answers.update(dict(zip(different.tolist(), counts.tolist(), strict=True)))
        self._answered += answers.size
        if len(self._answers) > _MOST_ANSWERS:
            self._answers = Counter(dict(self._answers.most_common(_MOST_ANSWERS)))

    @property
    def span(self) -> float:
        """The largest minus the smallest value; 0 before the first sample."""
        return max(self._high - self._low, 0.0)

    @property
    def axis(self) -> int | None:
        """The axis of class scores, if it is the same in all samples; else None."""
        return next(iter(self._axes)) if len(self._axes) == 1 else None

    @property
    def commonest(self) -> float | None:
        """The share of the answer that is given most often; None where there are no answers."""
        if not self._answers or not (self._labels or self.axis is not None):
            return None
        return max(self._answers.values()) / self._answered

    @property
    def answers_tell(self) -> bool:
        """Whether equal answers tell how near a graph is: there are some, and they vary."""
        return self.commonest is not None and self.commonest <= _ONE_FOR_NEARLY_ALL


class Nearness:
    """How near all outputs are to the original's, sample by sample.

    Outputs that are sequences are left out.
    """

    def __init__(self) -> None:
        self.outputs: dict[str, Explained] = {}
        """The share of the variance of each output, by its name."""

    def add(self, original: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Add one sample's outputs of the original and of the graph."""
        for name, expected in original.items():
            if isinstance(expected, np.ndarray):
                self.outputs.setdefault(name, Explained()).add(expected, np.asarray(outputs[name]))

    def merge(self, other: "Nearness") -> None:
        """Add the samples of another one."""
        for name, output in other.outputs.items():
            self.outputs.setdefault(name, Explained()).merge(output)

    @property
    def explained(self) -> float:
        """The share of the variance that is kept: a mean over channels, then over outputs.

        Outputs that do not vary are left out. Where no output varies, it is the share of the power
        of the outputs.
        """
        return self._mean([output.value for output in self.outputs.values()])

    @property
    def choosing(self) -> float:
        """The explained variance for choosing among graphs: a negative share counts as 0.

        A share has no lower bound, so a channel that hardly varies would outweigh all others.
        """
        return max(self._mean([output.floored for output in self.outputs.values()]), 0.0)

    def _mean(self, shares: Sequence[float | None]) -> float:
        varying = [value for value in shares if value is not None]
        if varying:
            return float(np.mean(varying))
        signal, noise = self._powers
        return finite(1 - noise / signal) if signal else float(noise == 0)

    @property
    def worst(self) -> Worst | None:
        """The channel with the smallest share; None where no channel varies."""
        weakest = {name: found for name, output in self.outputs.items() if (found := output.worst)}
        if not weakest:
            return None
        name = min(weakest, key=lambda name: weakest[name].explained)
        least = weakest[name]
        beside = [output.value for other, output in self.outputs.items() if other != name]
        kept = [value for value in (least.others, *beside) if value is not None]
        return Worst(
            output=name,
            channel=least.channel,
            explained=least.explained,
            others=finite(float(np.mean(kept))) if kept else None,
        )

    def kept_beside(self, judged: str) -> list[OutputKept]:
        """Return what outputs besides the judged one keep, the least first; those that vary."""
        kept = [
            OutputKept(output=name, explained=value)
            for name, output in self.outputs.items()
            if name != judged and (value := output.value) is not None
        ]
        return sorted(kept, key=lambda each: each.explained)[:_MOST_BESIDE]

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
        """Return the sums of squares and of squared errors; a mismatch costs a mean square."""
        totals = [output.total for output in self.outputs.values()]
        signal, noise, misses, places = np.sum([_sums(errors) for errors in totals] or [[0] * 4], 0)
        mean = signal / places if places else 0.0
        return float(signal), float(noise + misses * max(mean, _LEAST))


class Agreement:
    """The share of a graph's answers that are the same as the original's.

    Args:
        output: the name of the output that holds the answers.
        profile: range and axis of class scores of the original's output on the same samples.
    """

    def __init__(self, output: str, profile: Profile) -> None:
        self.output, self._span, self._axis = output, profile.span, profile.axis
        self._same = 0
        self.counted = 0
        """The number of answers so far."""

    def add(self, original: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Add one sample's outputs; NaN and infinity agree where both outputs hold the same."""
        expected, actual = original[self.output], outputs[self.output]
        if not isinstance(expected, np.ndarray):
            return
        axis = self._axis
        self.counted += expected.size if axis is None else expected.size // expected.shape[axis]
        if expected.shape == np.shape(actual):
            self._same += _agreeing(expected, actual, axis, _TOLERANCE * self._span)

    @property
    def missed(self) -> int:
        """The number of answers so far that are not the original's."""
        return self.counted - self._same

    @property
    def value(self) -> float:
        """The share over all samples so far; 1 before the first answer."""
        return self._same / self.counted if self.counted else 1.0


class Closeness:
    """The fidelity of a graph to the original, as reports show it.

    Args:
        output: the name of the output that agreement is counted on.
        profile: range and axis of class scores of the original's output on the same samples.
    """

    def __init__(self, output: str, profile: Profile) -> None:
        self._profile = profile
        self._agreement = Agreement(output, profile)
        self._nearness = Nearness()
        self._samples = 0

    def add(self, original: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Add one sample's outputs of the original and of the graph."""
        self._nearness.add(original, outputs)
        self._agreement.add(original, outputs)
        self._samples += 1

    @property
    def lost(self) -> float:
        """The share of the variance that is lost, 0 to 1, for choosing among graphs."""
        return 1 - self._nearness.choosing

    @property
    def value(self) -> Fidelity:
        """The fidelity over all samples so far."""
        return Fidelity(
            sqnr_db=self._nearness.sqnr_db,
            agreement=self._agreement.value,
            explained=self._nearness.explained,
            worst=self._nearness.worst,
            commonest=self._profile.commonest,
            bounded="agreement" if self._profile.answers_tell else "explained",
            samples=self._samples,
            beside=self._nearness.kept_beside(self._agreement.output),
        )


def _agreeing(
    expected: NDArray[Any], actual: NDArray[Any], axis: int | None, tolerance: float
) -> int:
    """Return how many positions (of class scores) or elements agree; labels agree if equal."""
    if are_labels(expected):
        return int(np.sum(expected == actual))
    if axis is not None:
        unknown = np.isnan(expected).any(axis) != np.isnan(actual).any(axis)
        return int(np.sum((expected.argmax(axis) == actual.argmax(axis)) & ~unknown))
    left, right = expected.astype(np.float64), actual.astype(np.float64)
    both = np.isfinite(left) & np.isfinite(right)
    close = np.abs(np.subtract(left, right, where=both, out=np.zeros_like(left))) <= tolerance
    equal = (left == right) | (np.isnan(left) & np.isnan(right))
    return int(np.sum(np.where(both, close, equal)))


def _sums(errors: Errors) -> list[float]:
    moments = errors.moments
    signal = moments.squares + moments.count * np.square(moments.mean)
    return [float(x[0]) for x in (signal, errors.noise, errors.misses, moments.count)]
