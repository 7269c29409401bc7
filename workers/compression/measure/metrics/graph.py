"""A metric that an ONNX graph computes: see ``app/domain/metric_graphs.py``."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.domain.metric_graphs import InputSource, castable, source_of
from app.domain.metrics import Kind
from app.domain.problems import MetricFailed
from app.domain.reports import Quality
from workers.compression import faults
from workers.compression.graph import runtime

Arrays = Mapping[str, NDArray[Any]]

_MOST_BYTES = 1 << 30
"""The most bytes of the inputs of a metric over all samples."""

_DTYPES = {
    "tensor(float16)": "float16", "tensor(float)": "float32", "tensor(double)": "float64",
    "tensor(int8)": "int8", "tensor(int16)": "int16", "tensor(int32)": "int32",
    "tensor(int64)": "int64", "tensor(uint8)": "uint8", "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32", "tensor(uint64)": "uint64", "tensor(bool)": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class _Input:
    source: InputSource
    dtype: str


class GraphMetric:
    """A metric whose graph is loaded.

    Args:
        path: the graph.
        model_id: the id of its model.
        kind: the kind of figure that it gives.
        outputs: the names of the outputs of the job's model.
        threads: number of threads to compute with.

    Raises:
        MetricFailed: it cannot be loaded, or the name of one of its inputs stands for nothing.
    """

    def __init__(
        self, path: Path, model_id: str, kind: Kind, outputs: Sequence[str], threads: int
    ) -> None:
        self.metric, self.kind = model_id, kind
        try:
            self._session = runtime.open_session(path, optimize=True, threads=threads)
        except Exception as error:
            if faults.is_limit(error):
                raise
            raise self._failed(error, "cannot be loaded") from error
        self._inputs = {
            declared.name: self._input(declared, outputs) for declared in self._session.get_inputs()
        }

    def score(self) -> "GraphScore":
        """Return a running value of the metric, before the first sample."""
        return GraphScore(self)

    def feeds(self, outputs: Arrays, target: NDArray[Any] | None, reference: Arrays) -> Arrays:
        """Return the inputs of the metric for one sample.

        Args:
            outputs: ``[1, …]`` of the graph that is judged.
            target: ``[…]``.
            reference: ``[1, …]`` of the original.

        Raises:
            MetricFailed: there is no target, or a value that its type cannot hold.
        """
        return {
            name: self._cast(
                name, self._array(declared.source, outputs, target, reference), declared.dtype
            )
            for name, declared in self._inputs.items()
        }

    def numbers(self, feeds: Arrays) -> NDArray[np.float64]:
        """Return the numbers that the metric gives, as one row.

        Raises:
            MetricFailed: the metric does not run on the inputs, or its output is not numeric.
        """
        try:
            (values,) = runtime.run(self._session, feeds).values()
        except Exception as error:
            if faults.is_limit(error):
                raise
            read = ", ".join(f"'{name}' {list(array.shape)}" for name, array in feeds.items())
            raise self._failed(error, f"does not run on {read}") from error
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
            raise MetricFailed(f"The metric {self.metric} gives no numbers.")
        row: NDArray[np.float64] = values.astype(np.float64).reshape(-1)
        return row

    def _input(self, declared: ort.NodeArg, outputs: Sequence[str]) -> _Input:
        source = source_of(declared.name, outputs)
        dtype = _DTYPES.get(declared.type)
        if source is None or dtype is None:
            raise MetricFailed(
                f"The metric's input '{declared.name}' of {declared.type} reads no output of the"
                " model, and neither targets nor the original's outputs."
            )
        return _Input(source, dtype)

    def _array(
        self, source: InputSource, outputs: Arrays, target: NDArray[Any] | None, reference: Arrays
    ) -> NDArray[Any]:
        if source.of != "targets":
            return (outputs if source.of == "outputs" else reference)[source.name]
        if target is None:
            raise MetricFailed(f"The metric {self.metric} reads targets, and there are none.")
        return target[None]

    def _cast(self, name: str, array: NDArray[Any], dtype: str) -> NDArray[Any]:
        if str(array.dtype) == dtype:
            return array
        if not castable(str(array.dtype), dtype):
            raise MetricFailed(f"The metric's input '{name}' reads {dtype}, not {array.dtype}.")
        cast = array.astype(dtype)
        if array.dtype.kind in "iu" and not np.array_equal(cast.astype(array.dtype), array):
            raise MetricFailed(f"The metric's input '{name}' is {dtype}: too small for its values.")
        return cast

    def _failed(self, error: Exception, failure: str) -> MetricFailed:
        return MetricFailed(f"The metric {self.metric} {failure}: {faults.runtime_words(error)}")


class GraphScore:
    """The running value of a metric that a graph computes.

    The first two samples show whether the graph gives a number for each sample. A graph that takes
    both and gives one number needs all samples at once; one that cannot take two gives a number
    for each.
    """

    def __init__(self, metric: GraphMetric) -> None:
        self._metric = metric
        self._rows: list[Arrays] = []
        self._each: bool | None = None
        self._bytes = 0
        self._sum = self.seconds = 0.0
        self.samples = 0

    def add(self, outputs: Arrays, target: NDArray[Any] | None, reference: Arrays) -> None:
        """Add one sample; see ``GraphMetric.feeds``.

        Raises:
            MetricFailed: the graph does not give one number for it.
        """
        start = time.monotonic()
        feeds = self._metric.feeds(outputs, target, reference)
        self.samples += 1
        if self._each:
            self._sum += self._one(feeds)
        else:
            self._keep(feeds)
        if self._each is None and self.samples == 2:
            self._each = self._gives_a_number_for_each()
            if self._each:
                self._sum = sum(map(self._one, self._rows))
                self._rows.clear()
        self.seconds += time.monotonic() - start

    @property
    def value(self) -> float:
        """The metric over all samples so far.

        Raises:
            MetricFailed: the graph does not give one number for them.
        """
        return self._sum / self.samples if self._each else self._one(_joined(self._rows))

    @property
    def quality(self) -> Quality:
        """The metric over all samples so far, with its name and kind."""
        return Quality(
            metric=self._metric.metric,
            kind=self._metric.kind,
            value=self.value,
            samples=self.samples,
        )

    def _keep(self, feeds: Arrays) -> None:
        self._bytes += sum(array.nbytes for array in feeds.values())
        if self._bytes > _MOST_BYTES:
            raise MetricFailed(
                f"The metric {self._metric.metric} gives one number for all samples, and what it"
                f" reads takes more than {_MOST_BYTES >> 20} MiB: let it give a number a sample."
            )
        self._rows.append(feeds)

    def _gives_a_number_for_each(self) -> bool:
        try:
            numbers = self._metric.numbers(_joined(self._rows))
        except (MetricFailed, ValueError):  # it takes single samples only, or sizes differ
            return True
        if numbers.size > 2 or not numbers.size:
            raise MetricFailed(
                f"The metric {self._metric.metric} gives {numbers.size} numbers for two samples:"
                " let it give one for each, or one for all."
            )
        return numbers.size == 2

    def _one(self, feeds: Arrays) -> float:
        numbers = self._metric.numbers(feeds)
        count = "all samples" if not self._each else "one sample"
        if numbers.size != 1:
            raise MetricFailed(
                f"The metric {self._metric.metric} gives {numbers.size} numbers for {count}: let it"
                " give one."
            )
        value = float(numbers[0])
        if not np.isfinite(value):
            raise MetricFailed(
                f"The metric {self._metric.metric} gives {value} for {count}: let it give a number,"
                " also where outputs are far off."
            )
        return value


def _joined(rows: Sequence[Arrays]) -> Arrays:
    """Concatenate samples; ValueError where their sizes differ."""
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
