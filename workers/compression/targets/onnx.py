"""ONNX on onnxruntime: how a graph becomes the file that is downloaded, and how it is run."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.domain.problems import DatasetMismatch
from workers.compression import faults
from workers.compression.graph import runtime
from workers.compression.graph.load import bundle, files_of
from workers.compression.samples.context import Feeds, Samples

Outputs = dict[str, NDArray[Any]]

VERSION: str = ort.__version__

PROVIDER = "CPUExecutionProvider"


def deliver(graph: Path, directory: Path) -> Path:
    """Write the artifact of a graph on disk: the file itself, or a zip past 2 GiB.

    Returns:
        The artifact, below ``directory``.
    """
    directory.mkdir(exist_ok=True)
    if len(files_of(graph)) > 1:
        artifact = directory / "model.zip"
        bundle(graph, artifact)
        return artifact
    artifact = directory / "model.onnx"
    artifact.write_bytes(graph.read_bytes())
    return artifact


def open_session(path: Path, threads: int) -> ort.InferenceSession:
    """Load a graph as a user would: every optimization on."""
    return runtime.open_session(path, optimize=True, threads=threads)


def run(
    session: ort.InferenceSession, names: Sequence[str] | None, feeds: Feeds
) -> list[NDArray[Any]]:
    """Return the named outputs, or all.

    Raises:
        DatasetMismatch: the graph cannot compute on these inputs.
        MemoryError: there is not enough memory for it.
    """
    try:
        values: list[NDArray[Any]] = session.run(names, feeds)
    except Exception as error:  # onnxruntime has one class for each status code
        if faults.is_out_of_memory(error):
            raise MemoryError(str(error)) from error
        shapes = ", ".join(f"'{name}' {list(array.shape)}" for name, array in feeds.items())
        raise DatasetMismatch(
            f"The model fails on inputs of this data ({shapes}): {faults.runtime_words(error)}"
        ) from error
    return values


def predict(session: ort.InferenceSession, samples: Samples) -> Iterator[list[Outputs]]:
    """Run samples in the smallest runs that the graph takes.

    Yields:
        For each run a list with the outputs of each of its samples: ``[1, …]`` where the output
        counts samples, along whichever axis; whole otherwise.
    """
    names = [output.name for output in session.get_outputs()]
    layout = samples.layout
    for feeds, rows in samples.runs():
        values = run(session, names, feeds)
        yield [
            {
                name: _of_sample(
                    value, index, layout.output_axis(name, np.ndim(value)), layout.size
                )
                for name, value in zip(names, values, strict=True)
            }
            for index in range(len(rows))
        ]


def _of_sample(value: NDArray[Any], index: int, axis: int | None, size: int) -> NDArray[Any]:
    """Return what an output says of a sample, the axis of samples first."""
    if not isinstance(value, np.ndarray) or axis is None or value.shape[axis] != size:
        return value
    return np.moveaxis(value, axis, 0)[index : index + 1]
