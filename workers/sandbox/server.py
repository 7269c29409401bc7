"""Starts processes that can access one directory and nothing else.

A `Sandbox` owns one fork server (`workers.sandbox.forkserver`), which has imported the engine's
libraries once and forks a confined process for each `Run` within milliseconds. The fork server also
enforces the limits, so that they hold even while the worker is stopped.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import IO, Any, Self

from app.domain.workers import Confinement
from workers.sandbox.limits import Exit, Limits

WITHOUT_THREADS = {"OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
"""Variables that keep libraries from starting a thread as they are imported: a process with threads
cannot be forked safely."""

ENTRY = "workers.compression.__main__:main"
REQUIRED = frozenset({"seccomp", "landlock", "network"})

_INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH")
_START_SECONDS = 120.0
_REPLY_SECONDS = 30.0
_CLOSE_SECONDS = 5.0

logger = logging.getLogger(__name__)


class SandboxError(RuntimeError):
    """A process could not be confined as required, or its fork server does not answer."""


class Sandbox:
    """A fork server and the runs that it has started; used by one thread, as a context manager."""

    def __init__(
        self,
        *,
        device: str = "cpu",
        threads: int | None = None,
        preload: bool = True,
        python: Path | None = None,
        require: frozenset[str] = REQUIRED,
    ) -> None:
        """Configure the sandbox; the first `start` or `probe` starts its fork server.

        Args:
            device: "cpu", or "cuda:N" for the GPU that runs may use.
            threads: the number of threads of torch; None leaves it to torch.
            preload: whether the fork server imports numpy, onnx, onnxruntime and torch.
            python: the interpreter of an environment with the imports of the entry; None takes the
                interpreter of this process.
            require: the mechanisms without which no run starts, of "namespaces", "network",
                "landlock" and "seccomp". "network" needs a network namespace or the filter of
                system calls.
        """
        self._setup = {"device": device, "threads": threads, "preload": preload}
        self._python = python or Path(sys.executable)
        self._require = require
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self, directory: Path, limits: Limits, *, entry: str = ENTRY) -> "Run":
        """Run ``entry`` with ``directory`` as its argument, in a process of its own.

        Its output is appended to ``engine.log`` in the directory. If root starts it, the directory
        and everything in it is given to the user of the run.

        Args:
            directory: the only directory that the run can write, and read besides its runtime.
            limits: the limits of the run.
            entry: "module:function", a function from a directory to an exit code.

        Raises:
            SandboxError: a required mechanism does not work here, or the run did not start.
        """
        server = self._running()
        lacking = self._require - _in_force(server.confinement)
        if lacking:
            raise SandboxError(
                f"this machine cannot confine runs by {', '.join(sorted(lacking))}, which is "
                f"required ({server.reasons}): allow it here, or do not require it"
            )
        number, pid = server.start(directory.resolve(strict=True), limits, entry)
        return Run(server, number, pid)

    def probe(self) -> dict[str, Any]:
        """Return the confinement that is in force here, as a `Confinement` in JSON."""
        return self._running().confinement.model_dump(mode="json")

    def close(self) -> None:
        """Kill every run and the fork server."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _running(self) -> "_Server":
        if self._server is not None and not self._server.alive():
            self.close()
        if self._server is None:
            self._server = _Server(self._setup, self._python)
        return self._server


class Run:
    """One confined process and its children."""

    def __init__(self, server: "_Server", number: int, pid: int) -> None:
        self.pid = pid
        """The pid of its first process, as the worker sees it."""
        self._server = server
        self._number = number
        self._exit: Exit | None = None

    def poll(self) -> Exit | None:
        """Return how the run ended, or None while it goes on."""
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> Exit | None:
        """Wait until the run has ended, for ``timeout`` seconds at most (None: for ever)."""
        if self._exit is None:
            self._exit = self._server.wait(self._number, timeout)
        return self._exit

    def kill(self) -> Exit:
        """Kill every process of the run and return how it ended."""
        if self._exit is None:
            self._server.kill(self._number)
        ended = self.wait(_REPLY_SECONDS)
        if ended is None:
            raise SandboxError("the fork server does not answer")
        return ended


def _in_force(confinement: Confinement) -> frozenset[str]:
    mechanisms = {
        "namespaces": confinement.pid_namespace,
        "network": confinement.network_namespace or confinement.seccomp,
        "landlock": confinement.landlock_abi > 0,
        "seccomp": confinement.seccomp,
    }
    return frozenset(name for name, works in mechanisms.items() if works)


class _Server:
    """The fork server's process and the connection to it, one JSON object a line."""

    def __init__(self, setup: dict[str, Any], python: Path) -> None:
        self._channel, child_end = socket.socketpair()
        with child_end:
            self._process = subprocess.Popen(
                [str(python), "-P", "-m", "workers.sandbox.forkserver", str(child_end.fileno())],
                pass_fds=[child_end.fileno()],
                env=_environment(str(setup["device"])),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        Thread(target=_log_lines, args=(self._process.stderr,), daemon=True).start()
        self._unread = b""
        self._ended: dict[int, Exit] = {}
        self._started = 0
        try:
            self._send(setup)
            ready = self._reply(_START_SECONDS)
        except BaseException:
            self._process.kill()  # while it imports it would not notice that this process has ended
            self.close()
            raise
        self.confinement = Confinement.model_validate(ready["confinement"])
        self.reasons = "; ".join(f"{name}: {why}" for name, why in ready["missing"].items())
        if self.reasons:
            logger.warning("not all confinement is in force: %s", self.reasons)

    def alive(self) -> bool:
        return self._process.poll() is None

    def start(self, directory: Path, limits: Limits, entry: str) -> tuple[int, int]:
        self._started += 1
        run = {"run": self._started, "directory": str(directory), "entry": entry}
        self._send({"start": run | {"limits": asdict(limits)}})
        reply = self._reply(_REPLY_SECONDS)
        if "error" in reply:
            raise SandboxError(f"the run did not start: {reply['error']}")
        return self._started, reply["pid"]

    def wait(self, number: int, timeout: float | None) -> Exit | None:
        until = None if timeout is None else time.monotonic() + timeout
        while number not in self._ended:
            remaining = None if until is None else max(0.0, until - time.monotonic())
            try:
                self._receive(remaining)
            except TimeoutError:
                return None
            except (EOFError, OSError):
                # Every run is killed with its fork server.
                return Exit(None, signal.SIGKILL, 0.0, 0, "killed")
        return self._ended.pop(number)

    def kill(self, number: int) -> None:
        with suppress(SandboxError):
            self._send({"kill": number})

    def close(self) -> None:
        self._channel.close()
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._channel.settimeout(_REPLY_SECONDS)
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            self.close()
            raise SandboxError("the fork server died or does not answer") from error

    def _reply(self, seconds: float) -> dict[str, Any]:
        """Return the next message that is not the end of a run."""
        until = time.monotonic() + seconds
        try:
            while (message := self._receive(max(0.0, until - time.monotonic()))) is None:
                pass
        except (EOFError, OSError) as error:
            self.close()
            raise SandboxError("the fork server died or does not answer") from error
        return message

    def _receive(self, seconds: float | None) -> dict[str, Any] | None:
        """Read one message; note the end of a run and return None, or return anything else."""
        until = None if seconds is None else time.monotonic() + seconds
        while b"\n" not in self._unread:
            remaining = None if until is None else until - time.monotonic()
            self._unread += self._read(remaining)
        line, _, self._unread = self._unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        if "ended" not in message:
            return message
        self._ended[message["ended"]] = Exit(**message["exit"])
        return None

    def _read(self, seconds: float | None) -> bytes:
        self._channel.settimeout(None if seconds is None else max(0.0, seconds))
        try:
            data = self._channel.recv(1 << 16)
        except BlockingIOError:
            raise TimeoutError from None
        if not data:
            raise EOFError
        return data


def _log_lines(lines: IO[bytes]) -> None:
    """Log the output of a fork server until it has ended."""
    with lines:
        for line in lines:
            logger.warning("fork server: %s", line.decode(errors="replace").rstrip())


def _environment(device: str) -> dict[str, str]:
    """Return the environment of the fork server, without variables that may hold secrets."""
    chosen = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return chosen | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        # A fixed hash seed makes the order of sets the same in every run.
        "PYTHONHASHSEED": "0",
        "CUDA_VISIBLE_DEVICES": device.partition(":")[2],
        **WITHOUT_THREADS,
    }
