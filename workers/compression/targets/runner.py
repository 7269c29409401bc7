"""A file that was opened on some runtime, run on samples."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.compression.samples.context import Feeds, Samples

Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Runner:
    """What runs a file, whatever its runtime."""

    runtime: str
    """Its name and version, such as ``openvino 2026.4.1``."""
    names: Sequence[str]
    """Of the outputs, those of the ONNX graph."""
    run: Callable[[Feeds], list[NDArray[Any]]]
    """From an array for each input to the outputs, in the order of ``names``."""


def predict(runner: Runner, samples: Samples) -> Iterator[list[Outputs]]:
    """Run samples in the smallest runs that the graph takes.

    Yields:
        For each run a list with the outputs of each of its samples: ``[1, …]`` where the output
        counts samples, along whichever axis; whole otherwise.
    """
    layout = samples.layout
    for feeds, rows in samples.runs():
        values = runner.run(feeds)
        yield [
            {
                name: _of_sample(
                    value, index, layout.output_axis(name, np.ndim(value)), layout.size
                )
                for name, value in zip(runner.names, values, strict=True)
            }
            for index in range(len(rows))
        ]


def _of_sample(value: NDArray[Any], index: int, axis: int | None, size: int) -> NDArray[Any]:
    """Return what an output says of a sample, the axis of samples first."""
    if not isinstance(value, np.ndarray) or axis is None or value.shape[axis] != size:
        return value
    return np.moveaxis(value, axis, 0)[index : index + 1]
