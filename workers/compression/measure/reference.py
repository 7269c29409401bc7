"""The outputs of one graph on some samples, with which those of many others are compared."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.reports import quality_drop
from workers.compression.measure.evaluation import Judge, rows, target_of
from workers.compression.measure.fidelity import Agreement, Nearness, Profile
from workers.compression.samples.context import Samples
from workers.compression.samples.probabilities import probabilities_axis
from workers.compression.targets import onnx as target
from workers.compression.targets.runner import Outputs

_KEPT_BYTES = 192 << 20
"""The bytes of outputs that are kept in memory; samples whose outputs exceed it are left out."""

_LEAST = 1e-30

_FEWEST = 4
"""The least number of samples, whatever the size of their outputs."""


class Reference:
    """A graph's outputs on samples. The graph runs once, however many others are compared.

    Args:
        path: the graph whose outputs are right.
        samples: the samples to run; the first ones are used if their outputs are too large.
        threads: the number of threads to compute with.
        judge: the metric against targets; None compares with the graph's own answers.
        output: the output whose answers are counted; None takes the first one.
    """

    def __init__(
        self,
        path: Path,
        samples: Samples,
        threads: int,
        judge: Judge | None = None,
        output: str | None = None,
    ) -> None:
        self._threads, self._judge = threads, judge
        self._outputs = list[Outputs]()
        profile, score, size = Profile(), judge.score() if judge else None, 0
        for row, outputs in rows(target.open_session(path, threads), samples):
            size += sum(array.nbytes for array in outputs.values() if hasattr(array, "nbytes"))
            if size > _KEPT_BYTES and len(self._outputs) >= _FEWEST:
                break
            output = output or next(iter(outputs))
            profile.add(outputs[output])
            if score:
                score.add(outputs, target_of(samples, row), outputs)
            self._outputs.append(outputs)
        self.samples = samples.take(samples.indices[: len(self._outputs)])
        """The samples that are compared."""
        self._output, self._profile = output or "", profile
        self._quality = score.quality if score else None

    def drop(self, path: Path, limit: float = np.inf) -> float:
        """Return by how much the quality of a graph is below this one's, as the verdict counts.

        Where answers are counted, a graph is not run to the end once so many are wrong that it
        drops by more than the limit; the result is then that of the samples that it ran on.

        Args:
            path: a graph with the same inputs and outputs.
            limit: the drop above which it need not be exact.
        """
        session = target.open_session(path, self._threads)
        pairs = zip(rows(session, self.samples), self._outputs, strict=True)
        if self._judge is not None:
            score = self._judge.score()
            for (row, given), expected in pairs:
                score.add(given, target_of(self.samples, row), expected)
            return quality_drop(self._quality, score.quality, None)
        if self._profile.axis is not None:
            agreement = Agreement(self._output, self._profile)
            answers = [outputs[self._output] for outputs in self._outputs]
            total = sum(each.size // each.shape[self._profile.axis] for each in answers)
            for (_, given), expected in pairs:
                agreement.add(expected, given)
                if agreement.missed > limit * total:
                    break
            return 1 - agreement.value
        nearness = Nearness()
        for (_, given), expected in pairs:
            nearness.add(expected, given)
        return 1 - nearness.explained

    def explained(self, path: Path) -> float:
        """Return the share of the outputs' variance that a graph keeps: 0 to 1.

        A channel that is noise counts as 0. Probabilities of classes are in one unit, and most of
        them are next to nothing: of those it is the share of the power of all classes together.

        Args:
            path: a graph with the same inputs and outputs.
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
