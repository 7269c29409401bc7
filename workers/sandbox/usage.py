"""Measures the memory of a tree of processes, and the storage of a directory.

Each thread of a process is examined: a thread may have open files of its own, and the first thread
may have ended before the others.
"""

import math
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ENTRY_BYTES = 4096
_MOST_ENTRIES = 100_000
_COUNTED = ("RssAnon:", "RssShmem:")
_NO_FILE = ("/dev/zero", "/memfd:", "/SYSV", "/dev/nvidia")
"""Names in ``maps`` of shared memory without a file in a directory."""

_Sizes = dict[tuple[str, int], int]
"""Bytes of a file, by the device that holds it and its number there."""


def memory_bytes(pid: int) -> int:
    """Return the bytes of memory of process ``pid`` and its descendants that no file backs.

    It is 0 for a process that has ended. Memory that forked processes share is counted for each.
    """
    total = 0
    for process in _tree(pid):
        for task in [process, *_threads(process)]:
            counted = [line for line in _status(task) if line.startswith(_COUNTED)]
            total += sum(int(line.split()[1]) * 1024 for line in counted)
            if counted:
                break
    return total


def unlinked_bytes(pid: int) -> float:
    """Return the bytes of unlinked files that process ``pid`` or a descendant holds open.

    A file that was unlinked while open or mapped keeps its storage until no process holds it. The
    result is infinity if it cannot be determined.
    """
    sizes: _Sizes = {}
    for process in _tree(pid):
        mapped = False
        for thread in _threads(process):
            try:
                _note_open(thread, sizes)
                mapped = mapped or _note_mapped(thread, sizes)
            except PermissionError:
                if any(line.startswith(_COUNTED) for line in _status(thread)):
                    return math.inf  # the process is not ending
            except (FileNotFoundError, ProcessLookupError):
                continue
    return sum(sizes.values())


def directory_bytes(directory: Path) -> float:
    """Return the bytes of storage of everything under ``directory``, without following links.

    Each entry counts one block more, as names take space too. The result is infinity if it cannot
    be determined: for an unreadable directory, or more than 100,000 entries.
    """
    total, entries, pending = 0, 0, [str(directory)]
    while pending:
        try:
            with os.scandir(pending.pop()) as listing:
                for entry in listing:
                    entries += 1
                    total += _ENTRY_BYTES + entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except FileNotFoundError:
            continue
        except OSError:
            return math.inf
        if entries > _MOST_ENTRIES:
            return math.inf
    return total


def _tree(pid: int) -> Iterator[Path]:
    """Yield the directory in ``/proc`` of a process and of each of its descendants."""
    pending = [pid]
    while pending:
        process = Path("/proc", str(pending.pop()))
        yield process
        for thread in _threads(process):
            with suppress(OSError):
                pending += map(int, (thread / "children").read_text().split())


def _threads(process: Path) -> list[Path]:
    try:
        return list((process / "task").iterdir())
    except OSError:
        return []


def _status(task: Path) -> list[str]:
    try:
        return (task / "status").read_text().splitlines()
    except OSError:
        return []


def _note_open(thread: Path, sizes: _Sizes) -> None:
    with os.scandir(thread / "fd") as descriptors:
        for descriptor in descriptors:
            with suppress(FileNotFoundError):
                status = descriptor.stat()
                if status.st_nlink == 0 and stat.S_ISREG(status.st_mode):
                    sizes[str(status.st_dev), status.st_ino] = status.st_blocks * 512


def _note_mapped(thread: Path, sizes: _Sizes) -> bool:
    """Note the unlinked files that are mapped; return whether the process has any memory."""
    lines = (thread / "maps").read_text(errors="replace").splitlines()
    for line in lines:
        if not line.endswith("(deleted)"):
            continue
        addresses, permissions, offset, device, inode, name = line.split(maxsplit=5)
        if permissions.endswith("s") and not name.startswith(_NO_FILE):
            start, _, end = addresses.partition("-")
            reach = int(offset, 16) + int(end, 16) - int(start, 16)
            file = f"mapped {device}", int(inode)
            sizes[file] = max(sizes.get(file, 0), reach)
    return bool(lines)
