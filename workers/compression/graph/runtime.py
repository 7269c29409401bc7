"""onnxruntime as the engine uses it: from a path, with nothing else in sight."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def open_session(path: Path, *, optimize: bool = False, threads: int = 1) -> ort.InferenceSession:
    """Load a graph from its file on the CPU.

    The working directory is empty meanwhile: onnxruntime looks there for external data.

    Args:
        path: a self-contained graph.
        optimize: let onnxruntime rewrite the graph; without, results are the graph's own.
        threads: for computing inside of an operator.

    Raises:
        Exception: onnxruntime's own, whose text names the faulty node.
    """
    options = ort.SessionOptions()
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Threads of one session must not spin while another one is being timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    file = str(path.absolute())
    with empty_working_directory():
        return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return all outputs by name."""
    names = [output.name for output in session.get_outputs()]
    options = ort.RunOptions()
    options.log_severity_level = 4
    return dict(zip(names, session.run(names, dict(feeds), options), strict=True))


@contextlib.contextmanager
def empty_working_directory() -> Iterator[None]:
    """Stand in a directory with nothing in it."""
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        yield
