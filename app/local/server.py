"""A program that runs while we run: started, awaited, stopped, and never left behind.

Everything that Planish starts on one machine (PostgreSQL, Valkey, the gateway, workers) is a
:class:`Server`. It runs in its own session, so that Ctrl-C reaches it through us and in order, and
the kernel sends it its stop signal when we die (``setpriv --pdeathsig``: unlike a ``preexec_fn``
this is safe in a process with threads, and it survives the change of user).
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

import psutil

_LOG_TAIL_BYTES = 2000
_POLL_S = 0.01
_LONGEST_SOCKET_DIRECTORY = 80


class AlreadyRunning(RuntimeError):  # noqa: N818 (it says what is the case)
    """Another process holds this data directory; its server answers at the same URL."""


class DidNotStart(RuntimeError):  # noqa: N818 (it says what is the case)
    """The program ended, or did not answer in time; the message holds the end of its log."""


def _silent() -> None:
    """Prepare nothing; wait for nothing."""


def _at_once() -> bool:
    return True


@dataclass
class Server:
    """One program and how it is started, awaited and stopped.

    ``start`` and ``stop`` may be called again and again; as a context manager it does both. Start
    it from a thread that lives as long as the server may: the kernel ties the two together.

    Raises:
        AlreadyRunning: from ``start``, when another process uses ``directory``.
        DidNotStart: from ``start``, when the program ends or stays silent.
    """

    name: str
    argv: Sequence[str]
    url: str = ""
    env: Mapping[str, str] | None = None
    """The whole environment; ``None`` hands on ours."""
    directory: Path | None = None
    """Held by one process at a time; the log is in it. ``None``: no lock, our own output."""
    prepare: Callable[[], None] = _silent
    """Called with the directory held and nobody running in it, before each start."""
    answers: Callable[[], bool] = _at_once
    """Whether the server takes requests."""
    stop_signal: signal.Signals = signal.SIGTERM
    unprivileged: bool = False
    """Whether the program refuses to run as root."""
    patience_s: float = 60.0
    """How long ``start`` waits for an answer."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _lock: IO[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def pid(self) -> int | None:
        """The process id of the running program, else ``None``."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """The exit status of the last run; ``None`` while it runs or before it ran."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start the program unless it runs, and return when it answers."""
        if self.pid is not None:
            return
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = self._lock or hold(self.directory / "lock")
            stop_leftovers(self.directory)
        try:
            self.prepare()
            self._process = self._launch()
            self._await()
        except BaseException:
            self.stop(grace_s=2.0)
            raise

    def ask_to_stop(self) -> None:
        """Send the stop signal and return at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self.stop_signal)

    def stop(self, grace_s: float = 10.0) -> None:
        """Stop the program: politely, then after ``grace_s`` seconds with its whole group."""
        process = self._process
        if process is not None:
            self.ask_to_stop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(grace_s, 0.0))
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self) -> subprocess.Popen[bytes]:
        with contextlib.ExitStack() as closing:
            log = closing.enter_context(self._log.open("wb")) if self._log else None
            return subprocess.Popen(
                [*bound_to_us(self.stop_signal, unprivileged=self.unprivileged), *self.argv],
                cwd=self.directory,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT if log else None,
                start_new_session=True,
            )

    def _await(self) -> None:
        deadline = time.monotonic() + self.patience_s
        while not self.answers():
            if self.exit_code is not None:
                raise DidNotStart(f"{self.name} ended with {self.exit_code}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise DidNotStart(
                    f"{self.name} did not answer in {self.patience_s:g} s: {self._last_words()}"
                )
            time.sleep(_POLL_S)

    @property
    def _log(self) -> Path | None:
        return self.directory / "log" if self.directory else None

    def _last_words(self) -> str:
        return (
            self._log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace") if self._log else ""
        )


def bound_to_us(stop_signal: signal.Signals, *, unprivileged: bool) -> list[str]:
    """Return the words before a command that tie it to our life and, if need be, drop root.

    Without root the program is ``nobody``, and keeps one capability, to pass directories that only
    root may enter (a checkout in ``/root``); so neither data nor binaries have to be moved.

    Raises:
        DidNotStart: the program refuses to run as root, and there is no ``setpriv``.
    """
    drop = unprivileged and os.geteuid() == 0
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        if drop:
            raise DidNotStart("root needs setpriv: install util-linux, or run as an ordinary user")
        return []
    words = [setpriv, f"--pdeathsig={stop_signal.name}"]
    if drop:
        nobody = pwd.getpwnam("nobody")
        words += [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
        words += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        words += ["--securebits=+no_setuid_fixup"]  # else access(2) does not see the capability
    return [*words, "--"]


def hold(path: Path) -> IO[bytes]:
    """Lock ``path`` for this process until the returned file is closed, or we die.

    Raises:
        AlreadyRunning: another process holds it.
    """
    lock = path.open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise AlreadyRunning(
            f"{path.parent} is in use by another service: stop it, or choose another data directory"
        ) from None
    return lock


def wheel(package: str) -> Path:
    """Return the directory of an installed package without running any of its code.

    Raises:
        DidNotStart: the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DidNotStart(f"{package} is not installed: install planish with its extra `local`")
    return Path(spec.submodule_search_locations[0])


def stop_leftovers(directory: Path, grace_s: float = 5.0) -> None:
    """Stop the servers that a crashed owner of ``directory`` left running in it.

    Only the holder of the directory's lock may call this: then nobody else's server is there. A
    person's shell may be, so a process must also be a server by name.
    """
    left = list(_servers_in(directory))
    for sig, patience in ((signal.SIGINT, grace_s), (signal.SIGKILL, grace_s)):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(sig)
        _, left = psutil.wait_procs(left, timeout=patience)


def _servers_in(directory: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() in {"postgres", "valkey-server", "redis-server"} and Path(
                process.cwd()
            ).is_relative_to(directory):
                yield process


def socket_directory(directory: Path) -> Path:
    """Return where a server of ``directory`` has its socket: a private place with a short path.

    A socket's path must fit into about 100 bytes, so a deep ``directory`` gets a place in the
    temporary directory, or in /tmp where that one is deep too. It is the same for each caller.

    Raises:
        DidNotStart: somebody else owns that place.
    """
    if _fits(directory):
        return directory
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    name = f"planish-{os.geteuid()}-{digest}"
    place = Path(tempfile.gettempdir()) / name
    if not _fits(place):
        place = Path("/tmp") / name  # noqa: S108 (a directory of ours, checked below)
    place.mkdir(exist_ok=True, mode=0o700)
    status = place.lstat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != 0o700 or place.is_symlink():
        raise DidNotStart(f"{place} must be a private directory of ours: remove it")
    return place


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory)) <= _LONGEST_SOCKET_DIRECTORY
