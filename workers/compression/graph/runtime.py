"""Loads and runs graphs with onnxruntime, from a file, without access to other files."""

import contextlib
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from workers.compression.graph.load import save

Arrays = dict[str, NDArray[Any]]


def open_session(path: Path, *, optimize: bool = False, threads: int = 1) -> ort.InferenceSession:
    """Load a graph from its file on the CPU.

    The working directory is empty meanwhile: onnxruntime looks there for external data.

    Args:
        path: a self-contained graph.
        optimize: let onnxruntime optimize the graph; otherwise it is run exactly as written.
        threads: number of threads inside of an operator.

    Raises:
        Exception: an error of onnxruntime, whose text names the faulty node.
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


@contextlib.contextmanager
def in_file(model: ir.Model) -> Iterator[Path]:
    """Keep a graph in a temporary file; its nodes are sorted in place."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "graph.onnx"
        save(model, path)
        yield path


def session_of(
    model: ir.Model, *, optimize: bool = False, threads: int = 1
) -> ort.InferenceSession:
    """Load a graph in memory through a temporary file; see ``open_session``."""
    with in_file(model) as path:
        return open_session(path, optimize=optimize, threads=threads)


def run(
    session: ort.InferenceSession,
    feeds: Mapping[str, NDArray[Any]],
    seconds: float | None = None,
) -> Arrays:
    """Return all outputs by name.

    Args:
        session: the session of the graph.
        feeds: an array for each input.
        seconds: the time limit; a run is stopped between two nodes. None sets no limit.

    Raises:
        TimeoutError: the run took longer than ``seconds``.
        Exception: an error of onnxruntime.
    """
    names = [output.name for output in session.get_outputs()]
    options = _quiet()
    with _stopped_after(seconds, options):
        return dict(zip(names, session.run(names, dict(feeds), options), strict=True))


def run_values(
    session: ort.InferenceSession,
    names: Sequence[str],
    feeds: Mapping[str, ort.OrtValue],
    seconds: float | None = None,
) -> list[ort.OrtValue]:
    """Return named outputs as onnxruntime values, which may have types that numpy lacks.

    Raises:
        TimeoutError: the run was stopped.
        Exception: an error of onnxruntime.
    """
    options = _quiet()
    with _stopped_after(seconds, options):
        return list(session.run_with_ort_values(list(names), dict(feeds), options))


def _quiet() -> ort.RunOptions:
    options = ort.RunOptions()
    options.log_severity_level = 4
    return options


@contextlib.contextmanager
def _stopped_after(seconds: float | None, options: ort.RunOptions) -> Iterator[None]:
    """Stop a run after a number of seconds."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if options.terminate:
            raise TimeoutError(f"the run took more than {seconds:.0f} s") from error
        raise
    finally:
        timer.cancel()


@contextlib.contextmanager
def empty_working_directory() -> Iterator[None]:
    """Make an empty directory the working directory."""
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        yield
