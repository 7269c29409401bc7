"""A real disk that is small enough to be filled."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1024**2


@contextmanager
def small_disk(place: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a disk in memory; skip the test where that is not allowed, not even through sudo."""
    place.mkdir(parents=True)
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    options = f"size={mebibytes}m,uid={os.geteuid()},mode=0700"
    mount = [*sudo, "mount", "-t", "tmpfs", "-o", options, "none", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is neither a mount nor a sudo to mount a small disk with")
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run([*sudo, "umount", str(place)], check=True)


@contextmanager
def filled(disk: Path, *, but: int = 0) -> Iterator[None]:
    """Leave no byte of the disk free, or ``but`` so many."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        while not _fills(file.fileno(), disk, but):
            pass
    try:
        yield
    finally:
        filler.unlink()


def _fills(file: int, disk: Path, but: int) -> bool:
    """Take what is free; return False if somebody else took some of it meanwhile."""
    status = os.statvfs(disk)
    try:
        os.posix_fallocate(file, 0, status.f_bavail * status.f_frsize - but)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.ftruncate(file, 0)
        return False
    return True
