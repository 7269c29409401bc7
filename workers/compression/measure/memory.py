"""Measures the memory that loading a graph and running it once takes, in a process of its own.

The process is forked, not started: inside the confinement nothing can be executed. Its parent is a
helper process that was forked before any library had started a thread; forking later is unsafe.
Where a thread runs already, or the confinement forbids forks, memory is not measured: the peak of
a process includes everything that ever ran in it.
"""

import itertools
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from workers.compression.samples.context import Feeds
from workers.compression.targets import onnx as target

_SECONDS = 60
_BLOCK = 1 << 16

Prober = Callable[[Path, Path, int], int | None]
"""From a graph, an ``.npz`` of its feeds, and threads to bytes; None if it cannot be measured."""


@contextmanager
def prober(seconds: int = _SECONDS) -> Iterator[Prober | None]:
    """Keep a helper process that measures peak memory on request.

    Enter the context before anything starts threads.

    Args:
        seconds: after which a measurement is given up.

    Yields:
        The function that measures, or None where no process may be forked, or other threads run.
    """
    if _threads() > 1:
        yield None
        return
    ask_read, ask_write = os.pipe()
    answer_read, answer_write = os.pipe()
    try:
        child = os.fork()
    except OSError:
        for end in (ask_read, ask_write, answer_read, answer_write):
            os.close(end)
        yield None
        return
    if child == 0:
        os.close(ask_write)
        os.close(answer_read)
        _serve(ask_read, answer_write, seconds)
    os.close(ask_read)
    os.close(answer_write)
    answers = _Lines(answer_read)
    numbers = itertools.count()

    def peak(graph: Path, feeds: Path, threads: int) -> int | None:
        number = next(numbers)
        with suppress(OSError):
            _write(ask_write, number, graph=str(graph), feeds=str(feeds), threads=threads)
            return answers.of(number, time.monotonic() + seconds + 1)
        return None

    try:
        yield peak
    finally:
        os.close(ask_write)
        os.close(answer_read)
        os.waitpid(child, 0)


def _threads() -> int:
    """Return how many threads this process has, those of libraries included."""
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return 1  # the confinement hides it, and begins with one


class _Lines:
    """Reads answers, one per line; an answer to an earlier request is dropped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._unread = b""

    def of(self, number: int, until: float) -> int | None:
        """Return the answer to request ``number``; None if it does not come in time."""
        while True:
            line, end, self._unread = self._unread.partition(b"\n")
            if end:
                answer = json.loads(line)
                if answer["number"] == number:
                    peak: int | None = answer["peak"]
                    return peak
                continue
            left = max(0.0, until - time.monotonic())
            ready, _, _ = select.select([self._descriptor], [], [], left)
            data = os.read(self._descriptor, _BLOCK) if ready else b""
            self._unread = line + data
            if not data:
                return None


def _write(descriptor: int, number: int, **words: Any) -> None:
    """Write a message as one line, which is shorter than a pipe takes at once."""
    os.write(descriptor, json.dumps({"number": number, **words}).encode() + b"\n")


def _serve(requests: int, answers: int, seconds: int) -> None:
    """Answer each request from a fresh fork; end when the parent closes its side, or ends."""
    for line in os.fdopen(requests, "rb"):
        request = json.loads(line)
        number = request.pop("number")
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a handler would wait for the run
                signal.alarm(seconds)
                _write(answers, number, peak=_peak(**request))
                os._exit(0)
            os._exit(1)
        if os.waitpid(child, 0)[1] != 0:
            with suppress(OSError):
                _write(answers, number, peak=None)
    os._exit(0)


def store_feeds(path: Path, feeds: Feeds) -> None:
    """Write the inputs of a run for ``prober``; strings are written as characters."""
    plain = {name: a.astype(np.str_) if a.dtype == object else a for name, a in feeds.items()}
    np.savez(path, allow_pickle=False, **plain)


def _peak(graph: str, feeds: str, threads: int) -> int:
    """Load and run a graph in this process; return by how many bytes its peak grew."""
    with np.load(feeds, allow_pickle=False) as stored:
        arrays = dict(stored)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    target.open_session(Path(graph), threads).run(None, arrays)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
