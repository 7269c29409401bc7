"""What a tree of processes and a directory take up, as the kernel counts it."""

import math
import os
from contextlib import suppress
from pathlib import Path

_ENTRY_BYTES = 4096
_MOST_ENTRIES = 100_000
_COUNTED = ("RssAnon:", "RssShmem:")


def memory_bytes(pid: int) -> int:
    """Return the memory of process ``pid`` and its descendants that no file backs.

    0 for a process that is gone. What processes share by forking is counted for each of them.
    """
    total, pending = 0, [pid]
    while pending:
        process = Path("/proc", str(pending.pop()))
        with suppress(OSError):
            for line in (process / "status").read_text().splitlines():
                if line.startswith(_COUNTED):
                    total += int(line.split()[1]) * 1024
            for thread in (process / "task").iterdir():
                pending += map(int, (thread / "children").read_text().split())
    return total


def directory_bytes(directory: Path) -> float:
    """Return the storage that everything under ``directory`` takes up, without following links.

    Each entry costs a block on top, as names take room too. Infinity where it cannot be told: a
    part that we may not look into, or more than 100,000 entries.
    """
    total, entries, pending = 0, 0, [str(directory)]
    while pending:
        try:
            with os.scandir(pending.pop()) as found:
                for entry in found:
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
