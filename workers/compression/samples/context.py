"""What a step may know besides its graph and its parameters."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.jobs import Evaluate
from workers.compression.samples.layout import FIRST, Layout, whole

Feeds = dict[str, NDArray[Any]]
"""An array for each of the graph's inputs, by name."""


@dataclass(frozen=True)
class Samples:
    """Rows of arrays that feed a graph; the arrays may lie on disk."""

    arrays: Mapping[str, NDArray[Any]]
    """For each input ``[samples, …]``."""
    targets: NDArray[Any] | None
    """``[samples, …]``: classes as integers, or numbers."""
    indices: Sequence[int]
    """The rows that these samples are, in order."""
    layout: Layout = FIRST
    """How they stand in what the graph reads and gives."""

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, indices: Sequence[int]) -> "Samples":
        """Return the samples of other rows."""
        return replace(self, indices=indices)

    def draw(self, count: int, seed: int) -> "Samples":
        """Return ``count`` of the samples, or all, drawn at random and in random order.

        Rows often lie sorted by class: the first ones, or a run of neighbours, stand for nothing.
        """
        chosen = np.random.default_rng(seed).permutation(len(self))[:count]
        return self.take([self.indices[i] for i in chosen.tolist()])

    def feeds(self, rows: Sequence[int]) -> Feeds:
        """Return what a run reads of some rows of the arrays."""
        wanted = list(rows)
        return {name: self.layout.feed(name, array[wanted]) for name, array in self.arrays.items()}

    def runs(self) -> Iterator[tuple[Feeds, list[int]]]:
        """Yield what each run reads, of as many samples as it takes, with the rows that count.

        The last run is filled up with its last sample where the samples do not divide.
        """
        size = self.layout.size
        for start in range(0, len(self.indices), size):
            rows = list(self.indices[start : start + size])
            yield self.feeds(rows + rows[-1:] * (size - len(rows))), rows

    def first_run(self) -> Feeds:
        """Return what the first run reads."""
        return next(self.runs())[0]


Apart = Callable[[Path, Path, int], int | None]
"""Runs a graph on an ``.npz`` of feeds with some threads in a process of its own: the memory that
it takes, None where it does not come to its end. See ``measure.memory``."""

Tell = Callable[[str, float, int | None], None]
"""Tells the user a figure on the way: its name, its value, the epoch."""


def _silent(_name: str, _value: float, _epoch: int | None) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Context:
    """Everything random takes ``seed``; what computes takes ``threads`` and ``device``."""

    train: Samples | None
    """What may be looked at; None without a dataset."""
    seed: int
    threads: int
    example: Feeds = field(default_factory=dict)
    """What one run reads, a sample or the batch that the graph is fixed to; random without a
    dataset."""
    layout: Layout = FIRST
    """How the samples stand in it."""
    original: Path | None = None
    """The upload in normal form: the teacher of those who ask for no other."""
    models: Path | None = None
    """The job's directory, where other models lie that the step names."""
    workspace: Path | None = None
    """The step's own directory; what lies in it outlives a killed process. None keeps nothing."""
    device: str = "cpu"
    """As torch names it."""
    evaluate: Evaluate = field(default_factory=Evaluate)
    """The metric and the output that the job asks for."""
    metric: Path | None = None
    """The graph that computes the metric, where the job names a model for that."""
    max_quality_drop: float | None = None
    """What the job requires; a step may meet it by doing less."""
    apart: Apart | None = None
    """Runs graphs that may end their process; None where they cannot be run so."""
    tell: Tell = _silent
    clock: Callable[[], float] = time.monotonic
    """Seconds that never go back, for whatever has a budget of time."""

    def seen(self, count: int) -> Samples:
        """Return up to ``count`` training samples to look at; the example where there are none.

        Empty where there is no example either.
        """
        if self.train is not None and len(self.train):
            return self.train.draw(count, self.seed)
        arrays = {name: array[np.newaxis] for name, array in self.example.items()}
        return Samples(arrays, None, range(1 if arrays else 0), whole(arrays))
