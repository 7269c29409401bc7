"""Graphs on onnxruntime."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from app.domain.problems import DatasetMismatch
from workers.compression import faults
from workers.compression.graph import runtime
from workers.compression.samples.context import Feeds, Samples
from workers.compression.targets import runner as runners
from workers.compression.targets.runner import Outputs, Runner

VERSION: str = ort.__version__

PROVIDER = "CPUExecutionProvider"


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


def runner(session: ort.InferenceSession) -> Runner:
    """Return what runs a session."""
    names = [output.name for output in session.get_outputs()]
    return Runner(f"onnxruntime {VERSION}", names, partial(run, session, names))


def predict(session: ort.InferenceSession, samples: Samples) -> Iterator[list[Outputs]]:
    """Run samples through a session; see ``targets.runner.predict``."""
    return runners.predict(runner(session), samples)
