"""Private directories of worker processes, removed when their process ends.

Each worker process has a directory and, beside it, a lock file that it holds while it lives. The
directory of a dead process is recognised by its free lock. The processes that live remove it, and
the next one that starts. Nothing here follows a link, and ``rm`` can remove whatever an engine has
left.
"""

import fcntl
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from app.domain import ids

_LOCK = ".lock"


@dataclass(frozen=True)
class Place:
    """The directories of one run."""

    engine: Path
    """The directory of the engine."""
    spool: Path
    """The directory of the worker: copies of the engine's files, which the engine cannot
    change."""


def base(chosen: Path | None) -> Path:
    """Return the directory for all worker processes of this user; it is created if missing.

    Raises:
        PermissionError: another user could write there.
    """
    path = chosen or Path(tempfile.gettempdir()) / f"planish-workers-{os.geteuid()}"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o22:
        raise PermissionError(f"{path} must be a directory of ours that nobody else may write to")
    return path.resolve()


@contextmanager
def process_directory(parent: Path) -> Iterator[Path]:
    """Make a directory for this process, remove those of dead ones, and remove it at the end."""
    sweep(parent)
    lock, root = _locked(parent)
    with lock:
        root.mkdir(mode=0o700)
        try:
            yield root
        finally:
            _remove_with_lock(root)


@contextmanager
def place(root: Path) -> Iterator[Place]:
    """Make the directories for one run, and remove them at the end."""
    run_directory = Path(tempfile.mkdtemp(dir=root))
    directories = Place(run_directory / "engine", run_directory / "spool")
    directories.engine.mkdir(mode=0o700)
    directories.spool.mkdir(mode=0o700)
    try:
        yield directories
    finally:
        remove(run_directory)


def remove(directory: Path) -> None:
    """Remove a directory, however deep and whatever its modes."""
    words = ["rm", "-rf", "--one-file-system", "--", str(directory)]
    subprocess.run(words, check=False, stderr=subprocess.DEVNULL)
    if directory.exists():
        subprocess.run(["chmod", "-R", "u+rwx", "--", str(directory)], check=False)
        subprocess.run(words, check=False)


def sweep(parent: Path) -> None:
    """Remove the directories of dead processes; what cannot be removed is tried again next time."""
    for path in parent.glob(f"wrk_*{_LOCK}"):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_with_lock(path.with_suffix(""))


def living(parent: Path) -> Iterator[Path]:
    """Yield the directories of living processes."""
    for path in sorted(parent.glob(f"wrk_*{_LOCK}")):
        with suppress(FileNotFoundError), path.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                yield path.with_suffix("")


def _remove_with_lock(root: Path) -> None:
    """Remove a process's directory, then its lock file; what is left is found by its lock later."""
    remove(root)
    if not root.exists():
        root.with_suffix(_LOCK).unlink(missing_ok=True)


def _locked(parent: Path) -> tuple[IO[bytes], Path]:
    """Choose a name, and create and lock its lock file."""
    while True:
        root = parent / ids.new("wrk")
        lock = root.with_suffix(_LOCK).open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock.fileno()).st_nlink:
            return lock, root
        lock.close()  # another process removed it before it was locked
