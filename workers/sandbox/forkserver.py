"""The fork server: imports the libraries once, and forks a confined run for every request.

``python -m workers.sandbox.forkserver FD`` communicates over the socket ``FD``, one JSON object a
line, with the `workers.sandbox.server.Sandbox` that started it. It has one thread and no secrets,
and it is killed when the process that started it ends; its runs are killed with it.

A run has two processes: a *keeper*, which creates the namespaces and waits outside, and the
confined process, the first of its PID namespace. When that one dies, the kernel kills all others
in the namespace.
"""

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.domain.workers import Confinement
from workers.sandbox import confinement, usage
from workers.sandbox.confined import MEMORY_EXIT, STORAGE_EXIT, Launch, keep
from workers.sandbox.limits import Exit, Limits

_PRELOADED = (
    "numpy",
    "onnx",
    "onnxruntime",
    "torch",
    "workers.compression.__main__",
    "workers.compression.intake.inspect",
    "workers.compression.methods",
)
"""Modules that take long to import and start no thread."""

_WATCH_SECONDS = 0.05
_DIRECTORY_EVERY = 10
_START_SECONDS = 20.0
_COUNTED = 0.8
"""The kernel limits CPU time that it counts in ticks, but reports the time really used, which is
less on a busy machine: other processes used a part of each tick."""


@dataclass
class Running:
    """A run in progress."""

    number: int
    keeper: int
    keeper_fd: int
    """Readable once the keeper has ended."""
    first_pid: int
    first_fd: int
    directory: Path
    limits: Limits
    started: float
    peak_bytes: int = 0
    looks: int = 0
    stopped: str | None = None
    """The limit for which it was killed."""


class ForkServer:
    """The main loop: reads requests, watches runs, reports their ends."""

    def __init__(self, channel: socket.socket, setup: dict[str, Any], plan: Confinement) -> None:
        self._channel = channel
        self._setup = setup
        self._plan = plan
        self._runs: dict[int, Running] = {}
        self._unread = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ, self._read)
        starter = os.pidfd_open(os.getppid())
        self._selector.register(starter, selectors.EVENT_READ, self._leave)

    def serve(self) -> None:
        """Serve requests until the other side closes the socket or dies."""
        while True:
            for key, _ in self._selector.select(_WATCH_SECONDS if self._runs else None):
                if isinstance(key.data, Running):
                    self._finish(key.data)
                else:
                    key.data()
            for run in self._runs.values():
                _watch(run)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._leave()

    def _read(self) -> None:
        data = self._channel.recv(1 << 16)
        if not data:
            self._leave()
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "kill" in message and (run := self._runs.get(message["kill"])):
                _stop(run, "killed")
            if "start" in message:
                self._start(message["start"])

    def _start(self, request: dict[str, Any]) -> None:
        try:
            run = self._fork(request["run"], self._launch(request))
        except OSError as error:
            self._send({"error": str(error)})
            return
        self._runs[run.number] = run
        self._selector.register(run.keeper_fd, selectors.EVENT_READ, run)
        self._send({"pid": run.first_pid})

    def _launch(self, request: dict[str, Any]) -> Launch:
        return Launch(
            entry=request["entry"],
            directory=Path(request["directory"]),
            limits=Limits(**request["limits"]),
            plan=self._plan,
            device=self._setup["device"],
            threads=self._setup["threads"],
        )

    def _fork(self, number: int, launch: Launch) -> Running:
        reading, writing = os.pipe()
        keeper = os.fork()
        if keeper == 0:
            keep(launch, writing)
        os.close(writing)
        keeper_fd = os.pidfd_open(keeper)
        messages = _read_messages(reading)
        if "confined" not in messages:
            os.kill(keeper, signal.SIGKILL)
            os.waitpid(keeper, 0)
            os.close(keeper_fd)
            raise OSError(messages.get("error", "it does not answer"))
        first = int(messages["pid"])
        return Running(
            number=number,
            keeper=keeper,
            keeper_fd=keeper_fd,
            first_pid=first,
            first_fd=_open_process(first, keeper_fd),
            directory=launch.directory,
            limits=launch.limits,
            started=time.monotonic(),
        )

    def _finish(self, run: Running) -> None:
        _, status, used = os.wait4(run.keeper, 0)
        self._selector.unregister(run.keeper_fd)
        os.close(run.keeper_fd)
        os.close(run.first_fd)
        del self._runs[run.number]
        cpu_seconds = used.ru_utime + used.ru_stime
        code = os.waitstatus_to_exitcode(status)
        ended = Exit(
            code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            cpu_seconds=cpu_seconds,
            peak_memory_bytes=max(run.peak_bytes, used.ru_maxrss * 1024),
            reason=_reason(run, code, cpu_seconds),
        )
        self._send({"ended": run.number, "exit": asdict(ended)})

    def _leave(self) -> None:
        for run in self._runs.values():
            _stop(run, "killed")
        for run in self._runs.values():
            os.waitpid(run.keeper, 0)
        os._exit(0)


def _open_process(pid: int, keeper_fd: int) -> int:
    """Return a descriptor with which to kill ``pid``; that of its keeper if ``pid`` has ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return os.dup(keeper_fd)


def _read_messages(reading: int) -> dict[str, str]:
    """Return the messages of keeper and run: ``pid``, then ``confined`` or ``error``."""
    received = b""
    with selectors.DefaultSelector() as selector, os.fdopen(reading, "rb", buffering=0) as pipe:
        selector.register(pipe, selectors.EVENT_READ)
        until = time.monotonic() + _START_SECONDS
        while selector.select(max(0.0, until - time.monotonic())):
            data = pipe.read(1 << 16)
            if not data:
                break
            received += data
    words: dict[str, str] = {}
    for line in received.splitlines():
        words |= json.loads(line)
    return words


def _watch(run: Running) -> None:
    """Kill the run if it has passed a limit."""
    limits = run.limits
    used = usage.memory_bytes(run.first_pid)
    run.peak_bytes = max(run.peak_bytes, used)
    run.looks += 1
    if used > limits.memory_bytes:
        _stop(run, "memory")
    elif limits.wall_seconds is not None and time.monotonic() - run.started > limits.wall_seconds:
        _stop(run, "deadline")
    elif run.looks % _DIRECTORY_EVERY == 0 and _overfull(run):
        _stop(run, "storage")


def _overfull(run: Running) -> bool:
    """Return whether the files of the run, unlinked open ones included, exceed the limit."""
    written = usage.directory_bytes(run.directory) + usage.unlinked_bytes(run.first_pid)
    return written > run.limits.directory_bytes


def _stop(run: Running, reason: str) -> None:
    run.stopped = run.stopped or reason
    try:
        signal.pidfd_send_signal(run.first_fd, signal.SIGKILL)
    except ProcessLookupError:
        return


def _reason(run: Running, code: int, cpu_seconds: float) -> Any:
    if run.stopped:
        return run.stopped
    if code == MEMORY_EXIT:
        return "memory"
    if code == STORAGE_EXIT or _overfull(run):
        return "storage"
    limit = run.limits.cpu_seconds
    if code == -signal.SIGKILL and limit is not None and cpu_seconds >= _COUNTED * limit:
        return "deadline"
    return "killed" if code < 0 else "exited"


def main(descriptor: int) -> None:
    """Import the libraries, try out the confinement, report it, and serve."""
    channel = socket.socket(fileno=descriptor)
    setup = json.loads(channel.makefile("rb", buffering=0).readline())
    if setup["preload"]:
        for name in _PRELOADED:
            importlib.import_module(name)
    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    if threads != 1:
        raise RuntimeError(f"importing started {threads - 1} threads: a fork would lose them")
    plan, missing = confinement.probe()
    ready = {"confinement": plan.model_dump(mode="json"), "missing": missing}
    channel.sendall(json.dumps(ready).encode() + b"\n")
    # The garbage collector must not write to memory that is shared with the runs.
    gc.freeze()
    ForkServer(channel, setup, plan).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
