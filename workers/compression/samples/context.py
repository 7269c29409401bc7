"""The context of a step: everything that it reads besides its graph and its parameters."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from app.domain.jobs import Evaluate
from app.domain.steps import Step
from app.domain.targets import OutputFormat
from workers.compression.graph.fingerprint import fingerprint
from workers.compression.known_times import KnownTimes
from workers.compression.price_list import PriceList
from workers.compression.samples.layout import FIRST, Layout, whole

Feeds = dict[str, NDArray[Any]]
"""An array for each of the graph's inputs, by name."""


@dataclass(frozen=True)
class Samples:
    """Samples that feed a graph: rows of arrays, which may lie on disk.

    Samples without rows are false, as an empty list is.
    """

    arrays: Mapping[str, NDArray[Any]]
    """One array for each input, ``[samples, …]``."""
    targets: NDArray[Any] | None
    """The targets ``[samples, …]``: integer classes, or numbers."""
    indices: Sequence[int]
    """The rows of the arrays that belong to these samples, in order."""
    layout: Layout = FIRST
    """The axes of samples of the inputs and outputs."""
    made: bool = False
    """Whether they were made from the model, in place of data."""

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, indices: Sequence[int]) -> "Samples":
        """Return the samples of the given rows."""
        return replace(self, indices=indices)

    def draw(self, count: int, seed: int) -> "Samples":
        """Return ``count`` of the samples, or all, drawn at random and in random order.

        Rows are often sorted by class, so the first ones are not representative.
        """
        chosen = np.random.default_rng(seed).permutation(len(self))[:count]
        return self.take([self.indices[i] for i in chosen.tolist()])

    def feeds(self, rows: Sequence[int]) -> Feeds:
        """Return the arrays that one run of the graph reads, by input, made of the given rows."""
        row_list = list(rows)
        return {
            name: self.layout.feed(name, array[row_list]) for name, array in self.arrays.items()
        }

    def runs(self) -> Iterator[tuple[Feeds, list[int]]]:
        """Yield the inputs of each run, with the rows of its samples.

        Where the number of samples is no multiple of the size of a run, the last run repeats its
        last sample.
        """
        size = self.layout.size
        for start in range(0, len(self.indices), size):
            rows = list(self.indices[start : start + size])
            yield self.feeds(rows + rows[-1:] * (size - len(rows))), rows

    def first_run(self) -> Feeds:
        """Return the inputs that the first run of the graph is given."""
        return next(self.runs())[0]


IsolatedRun = Callable[[Path, Path, int], int | None]
"""Runs a graph in a process of its own, on an ``.npz`` of feeds and with a number of threads;
returns the bytes of memory that it takes, None if it crashes or takes too long. See
``measure.memory``."""

Tell = Callable[[str, float, int | None], None]
"""Reports an intermediate figure to the user: its name, its value, the epoch."""


def _silent(_name: str, _value: float, _epoch: int | None) -> None:
    """Ignore a reported figure."""


@dataclass(frozen=True)
class Context:
    """The context of a step.

    Random numbers are drawn from ``seed``; computations use ``threads`` and ``device``.
    """

    train: Samples | None
    """The samples that the step may use; None without a dataset."""
    seed: int
    threads: int
    example: Feeds = field(default_factory=dict)
    """The inputs of one run: a sample, or the batch that the graph is fixed to. Random without a
    dataset."""
    layout: Layout = FIRST
    """The layout of samples in the example."""
    original: Path | None = None
    """The upload in normal form: the default teacher."""
    models: Path | None = None
    """The job's directory, which holds the other models that the step names."""
    earlier: Sequence[Step] = ()
    """The steps of the job that made the graph, in order."""
    workspace: Path | None = None
    """The directory of the step; its files survive when the process is killed. None: no files are
    kept."""
    device: str = "cpu"
    """The device, as torch names it."""
    evaluate: Evaluate = field(default_factory=Evaluate)
    """The metric and the output that the job asks for."""
    metric: Path | None = None
    """The graph that computes the metric, where the job names a model for that."""
    max_quality_drop: float | None = None
    """The bound that the job sets; a step may change less to keep it."""
    deliver: Sequence[OutputFormat] = ("onnx",)
    """The formats that the result is wanted in; a step that chooses takes what they hold."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """The share of the outputs' variance that is lost if a layer alone computes in int8, by its
    name, where the model's chart of sensitivity holds it."""
    known_times: KnownTimes = field(default_factory=KnownTimes)
    """The times of single layers that are known, to which steps add those that they measure."""
    prices: PriceList = field(default_factory=PriceList)
    """What is known of the step's graph, to which the step adds what it measures."""
    isolated_run: IsolatedRun | None = None
    """Runs a graph in a process of its own, which it may crash; None where that is not
    possible."""
    tell: Tell = _silent
    resumed: Callable[[], None] = lambda: None
    """Is called where work of an earlier run is taken over: the progress leaps after it."""
    clock: Callable[[], float] = time.monotonic
    """A monotonic clock, in seconds, for time budgets."""
    computed: Callable[[], float] = time.thread_time
    """The seconds in which this thread has computed: those do not pass while other work has the
    processor."""
    deadline: float = math.inf
    """The clock's reading after which a step looks for nothing better: it keeps its best graph."""

    def name_of(self, graph: ir.Model) -> str:
        """Return what a graph is called in the price list; empty where the step keeps none."""
        return fingerprint(graph).hex() if self.prices.graph else ""

    def has_time(self) -> bool:
        """Return whether the deadline is still to come."""
        return self.clock() < self.deadline

    def time_for(self, seconds: float) -> Callable[[], bool]:
        """Return what tells whether there is time left, of some seconds from now on.

        Only seconds of computing count, so that a search does as much on a machine that is busy
        with other work; the deadline ends it there.
        """
        end = self.computed() + seconds
        return lambda: self.computed() < end and self.has_time()

    def samples_or_example(self, count: int) -> Samples:
        """Return up to ``count`` training samples; without any, the example as the only sample.

        The result is empty where there is no example either.
        """
        if self.train:
            return self.train.draw(count, self.seed)
        arrays = {name: array[np.newaxis] for name, array in self.example.items()}
        return Samples(arrays, None, range(1 if arrays else 0), whole(arrays))
