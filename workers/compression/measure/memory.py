"""How much memory loading a graph and running it once takes, in a process of its own.

The process is forked, not started: inside the confinement nothing can be executed. Its parent is a
child that was made before any runtime had started a thread, as a fork must be.
"""

import json
import os
import resource
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from workers.compression.targets import onnx as target

_SECONDS = 60
_LINE = 1 << 16

Prober = Callable[[Path, Path, int], int | None]
"""From a graph, an ``.npz`` of its feeds, and threads to bytes; None if it cannot be measured."""


@contextmanager
def prober() -> Iterator[Prober]:
    """Keep a child process that measures on request. Enter it before anything starts threads."""
    ask_read, ask_write = os.pipe()
    answer_read, answer_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ask_write)
        os.close(answer_read)
        _serve(ask_read, answer_write)
    os.close(ask_read)
    os.close(answer_write)

    def peak(graph: Path, feeds: Path, threads: int) -> int | None:
        request = {"graph": str(graph), "feeds": str(feeds), "threads": threads}
        with suppress(OSError, ValueError):
            os.write(ask_write, json.dumps(request).encode() + b"\n")
            ready, _, _ = select.select([answer_read], [], [], _SECONDS + 1)
            answer: int | None = json.loads(os.read(answer_read, _LINE)) if ready else None
            return answer
        return None

    try:
        yield peak
    finally:
        os.close(ask_write)
        os.close(answer_read)
        os.waitpid(child, 0)


def _serve(requests: int, answers: int) -> None:
    """Answer each request from a fresh fork; end when the parent closes its side, or ends."""
    while line := os.read(requests, _LINE):
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                signal.alarm(_SECONDS)
                os.write(answers, str(_peak(**json.loads(line))).encode())
                os._exit(0)
            os._exit(1)
        if os.waitpid(child, 0)[1] != 0:
            with suppress(OSError):
                os.write(answers, b"null")
    os._exit(0)


def _peak(graph: str, feeds: str, threads: int) -> int:
    """Load and run a graph in this process; return by how many bytes its peak grew."""
    with np.load(feeds, allow_pickle=False) as stored:
        arrays = dict(stored)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    target.open_session(Path(graph), threads).run(None, arrays)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
