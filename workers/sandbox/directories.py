"""Private directories that do not outlive their process.

Each worker process has a directory and, beside it, a lock file that it holds while it lives. What
a dead process left is recognised by its free lock, and swept by the next one that starts. Nothing
here follows a link, and ``rm`` copes with whatever an engine has left.
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
    """Where one run happens."""

    engine: Path
    """The engine's own directory."""
    spool: Path
    """Ours alone: copies of what it made, which it can no longer change."""


def base(chosen: Path | None) -> Path:
    """Return the directory for all worker processes of this user, made if need be.

    Raises:
        PermissionError: somebody else could write there.
    """
    path = chosen or Path(tempfile.gettempdir()) / f"planish-workers-{os.geteuid()}"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o22:
        raise PermissionError(f"{path} must be a directory of ours that nobody else may write to")
    return path.resolve()


@contextmanager
def process_directory(parent: Path) -> Iterator[Path]:
    """Make a directory for this process, sweep those of dead ones, and remove it at the end."""
    _sweep(parent)
    lock, root = _locked(parent)
    with lock:
        root.mkdir(mode=0o700)
        try:
            yield root
        finally:
            remove(root)
            root.with_suffix(_LOCK).unlink(missing_ok=True)


@contextmanager
def place(root: Path) -> Iterator[Place]:
    """Make a fresh place for one run, and remove it at the end."""
    own = Path(tempfile.mkdtemp(dir=root))
    made = Place(own / "engine", own / "spool")
    made.engine.mkdir(mode=0o700)
    made.spool.mkdir(mode=0o700)
    try:
        yield made
    finally:
        remove(own)


def remove(directory: Path) -> None:
    """Remove a directory, however deep and whatever its modes."""
    words = ["rm", "-rf", "--one-file-system", "--", str(directory)]
    subprocess.run(words, check=False, stderr=subprocess.DEVNULL)
    if directory.exists():
        subprocess.run(["chmod", "-R", "u+rwx", "--", str(directory)], check=False)
        subprocess.run(words, check=False)


def living(parent: Path) -> Iterator[Path]:
    """Yield the directories of the processes that live."""
    for path in sorted(parent.glob(f"wrk_*{_LOCK}")):
        with suppress(FileNotFoundError), path.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                yield path.with_suffix("")


def _locked(parent: Path) -> tuple[IO[bytes], Path]:
    """Make a name, and a lock file for it that we hold."""
    while True:
        root = parent / ids.new("wrk")
        lock = root.with_suffix(_LOCK).open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock.fileno()).st_nlink:
            return lock, root
        lock.close()  # a sweeper saw it before we held it


def _sweep(parent: Path) -> None:
    for path in parent.glob(f"wrk_*{_LOCK}"):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(path.with_suffix(""))
            path.unlink()
