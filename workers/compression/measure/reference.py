"""The outputs of one graph on some samples, with which those of many others are compared."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.domain.reports import Quality, quality_drop
from workers.compression.measure.fidelity import Agreement, Nearness, Profile
from workers.compression.measure.passes import Judge, rows, target_of
from workers.compression.samples.context import Samples
from workers.compression.samples.probabilities import probabilities_axis
from workers.compression.targets import onnx as target
from workers.compression.targets.runner import Outputs

_KEPT_BYTES = 192 << 20
"""The bytes of outputs that are kept in memory; samples whose outputs exceed it are left out."""

_LEAST = 1e-30
"""The least power that is divided by."""

_FEWEST = 4
"""The least number of samples, whatever the size of their outputs."""

Sums = TypeVar("Sums")
"""What is summed up of a group of samples."""

_GROUPS = 16
"""The greatest number of groups of samples that a standard error is estimated from, and the least
number of samples that there is always time for."""

_Pair = tuple[tuple[int, Outputs], Outputs]
"""A sample's row and its outputs of another graph, and those of the reference."""


@dataclass(frozen=True)
class Drop:
    """The drop of a graph's quality below that of another one, on some samples."""

    value: float
    error: float = 0.0
    """The standard error of the value; 0 where quality is measured against targets: there answers
    change for better and for worse, and that they change says nothing of the drop."""

    @property
    def expected(self) -> float:
        """The drop that other samples rarely exceed: the value and its standard error."""
        return self.value + self.error


class Reference:
    """A graph with which other graphs are compared: it runs once, and its outputs are kept.

    Args:
        path: the graph.
        samples: the samples that graphs are compared on; if the outputs are too large to keep, only
            the first ones are used.
        threads: the number of threads to compute with.
        judge: the metric against targets; None compares with the graph's own answers.
        output: the output whose answers are counted; None takes the first one.
        has_time: whether there is time for more than a few samples.
    """

    def __init__(
        self,
        path: Path,
        samples: Samples,
        threads: int,
        judge: Judge | None = None,
        output: str | None = None,
        has_time: Callable[[], bool] = lambda: True,
    ) -> None:
        self._threads, self._judge, self._has_time = threads, judge, has_time
        self._outputs, self._rows = list[Outputs](), list[int]()
        self._qualities = dict[int, Quality | None]()
        profile, size = Profile(), 0
        for row, outputs in rows(target.open_session(path, threads), samples):
            size += sum(array.nbytes for array in outputs.values() if hasattr(array, "nbytes"))
            if size > _KEPT_BYTES and len(self._outputs) >= _FEWEST:
                break
            if len(self._outputs) >= _GROUPS and not has_time():
                break
            output = output or next(iter(outputs))
            profile.add(outputs[output])
            self._outputs.append(outputs)
            self._rows.append(row)
        self.samples = samples.take(samples.indices[: len(self._outputs)])
        """The samples that are compared."""
        self._output, self._profile = output or "", profile

    def drop(self, path: Path, limit: float = np.inf) -> Drop:
        """Return how far the quality of another graph is below this one's.

        It is measured as the verdict on a job measures it. Where answers are counted, the other
        graph is stopped once its drop exceeds the limit, and in any case once there is no time for
        more than a few samples; the result then counts the samples that it ran on.

        Args:
            path: the other graph, with the same inputs and outputs.
            limit: the drop above which the result need not be exact.
        """
        session = target.open_session(path, self._threads)
        pairs = self._in_time(zip(rows(session, self.samples), self._outputs, strict=True))
        if self._judge is not None:
            score, count = self._judge.score(), 0
            for (row, given), expected in pairs:
                score.add(given, target_of(self.samples, row), expected)
                count += 1
            return Drop(quality_drop(self._quality(count), score.quality, None))
        if self._profile.answers_tell:
            return self._disagreement(pairs, limit)
        groups = [Nearness() for _ in range(min(_GROUPS, len(self._outputs)))]
        for index, ((_, given), expected) in enumerate(pairs):
            groups[index % len(groups)].add(expected, given)
        return with_error(groups, _unexplained)

    def _quality(self, count: int) -> Quality | None:
        """Return the quality of the reference itself on the first samples."""
        if self._judge is None:
            return None
        if count not in self._qualities:
            score = self._judge.score()
            for row, outputs in zip(self._rows[:count], self._outputs, strict=False):
                score.add(outputs, target_of(self.samples, row), outputs)
            self._qualities[count] = score.quality
        return self._qualities[count]

    def _in_time(self, pairs: Iterable[_Pair]) -> Iterator[_Pair]:
        """Yield pairs of outputs while there is time; a few in any case."""
        for done, pair in enumerate(pairs):
            if done >= _GROUPS and not self._has_time():
                return
            yield pair

    def _disagreement(self, pairs: Iterable[_Pair], limit: float) -> Drop:
        """Return the share of answers that differ; not of all samples once it exceeds the limit."""
        answers = [outputs[self._output] for outputs in self._outputs]
        axis = self._profile.axis
        total = sum(
            each.size if axis is None else each.size // each.shape[axis] for each in answers
        )
        groups = [
            Agreement(self._output, self._profile) for _ in range(min(_GROUPS, len(self._outputs)))
        ]
        for index, ((_, given), expected) in enumerate(pairs):
            groups[index % len(groups)].add(expected, given)
            if sum(group.missed for group in groups) > limit * total:
                return Drop(_differing(groups))
        return with_error(groups, _differing)

    def explained(self, path: Path) -> float:
        """Return the share of the outputs' variance that another graph keeps: 0 to 1.

        It is a mean over channels, then over outputs; a channel that is noise counts as 0. Of an
        output that is probabilities of classes, it is the share of the power of all classes
        together: they have one unit, and most of them are next to nothing.

        Args:
            path: the other graph, with the same inputs and outputs.
        """
        session = target.open_session(path, self._threads)
        outputs = self._outputs[0]
        classes = {name for name, value in outputs.items() if _are_probabilities(value)}
        powers = {name: np.zeros(2) for name in classes}
        nearness = Nearness()
        for (_, given), expected in zip(rows(session, self.samples), self._outputs, strict=True):
            for name in classes:
                powers[name] += _powers(expected[name], given[name])
            others = {name: value for name, value in expected.items() if name not in classes}
            nearness.add(others, given)
        shares = [max(1 - noise / max(signal, _LEAST), 0.0) for signal, noise in powers.values()]
        rest = len(outputs) - len(classes)
        return (sum(shares) + (nearness.choosing * rest if rest else 0.0)) / len(outputs)


def with_error(groups: Sequence[Sums], value: Callable[[Sequence[Sums]], float]) -> Drop:
    """Return a figure of groups of samples, with its standard error.

    The error is that of the jackknife that leaves out one group after the other: Quenouille,
    "Notes on bias in estimation", 1956; Tukey, "Bias and confidence in not-quite large samples",
    1958. It needs no sample twice. A single group has no error.
    """
    count = len(groups)
    if count < 2:
        return Drop(value(groups))
    without = [value([*groups[:left], *groups[left + 1 :]]) for left in range(count)]
    error = np.sqrt((count - 1) * np.var(without))
    return Drop(value(groups), float(error))


def _unexplained(groups: Sequence[Nearness]) -> float:
    """Return the share of the variance that is lost on all groups together."""
    together = Nearness()
    for group in groups:
        together.merge(group)
    return 1 - together.explained


def _differing(groups: Sequence[Agreement]) -> float:
    """Return the share of answers that differ on all groups together."""
    counted = sum(group.counted for group in groups)
    return sum(group.missed for group in groups) / counted if counted else 0.0


def _are_probabilities(value: Any) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.dtype.kind == "f"
        and value.ndim >= 2
        and probabilities_axis(value) is not None
    )


def _powers(expected: NDArray[Any], given: NDArray[Any]) -> NDArray[np.float64]:
    """Return the power of a signal, and that of what another misses of it."""
    same_shape = expected.shape == np.shape(given)
    missed = np.nan_to_num(given) - expected if same_shape else expected
    return np.array([np.square(a, dtype=np.float64).sum() for a in (expected, missed)])
