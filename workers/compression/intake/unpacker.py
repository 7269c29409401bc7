"""Writes an archive's entries within limits, below one directory, never over an existing file."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NoReturn

from app.domain.problems import Failed
from workers.compression.intake.limits import ArchiveLimits

_DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass
class Unpacker:
    """Receives an archive's entries, one after the other, and writes them within the limits."""

    into: Path
    limits: ArchiveLimits
    archive_size: int
    problem: type[Failed]
    written: int = 0
    entries: int = 0
    names: set[str] = field(default_factory=set)

    def refuse(self, why: str) -> NoReturn:
        """Raise the problem with which this archive is refused."""
        raise self.problem(f"The archive is refused: {why}.")

    def directory(self, name: str) -> None:
        """Make a directory; nothing is written to it unless an entry names it."""
        self._count()
        self._path(name).mkdir(parents=True, exist_ok=True)

    def file(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write one file from bounded pieces."""
        self._count()
        path = self._path(name)
        key = unicodedata.normalize("NFC", str(path)).casefold()
        if key in self.names:
            self.refuse(f"it holds {name[:80]!r} more than once")
        self.names.add(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o600)
        except OSError:
            self.refuse(f"{name[:80]!r} stands where another entry already is")
        with os.fdopen(descriptor, "wb") as file:
            for piece in self.counted(pieces):
                file.write(piece)

    def counted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Pass pieces on until the budget is used up."""
        limits = self.limits
        for piece in pieces:
            self.written += len(piece)
            if self.written > limits.total:
                self.refuse(f"it unpacks to more than {limits.total} bytes")
            bomb = self.written > limits.ratio * self.archive_size
            if bomb and self.written > limits.ratio_from:
                self.refuse(f"it unpacks to more than {limits.ratio} times its size")
            yield piece

    def _count(self) -> None:
        self.entries += 1
        if self.entries > self.limits.entries:
            self.refuse(f"it holds more than {self.limits.entries} entries")

    def _path(self, name: str) -> Path:
        """Return the path for an entry, after checking that it stays below the target."""
        parts = PurePosixPath(name).parts
        if not name or "\0" in name or len(name) > self.limits.path_length:
            self.refuse("an entry's name is empty or too long")
        if "\\" in name or name.startswith("/") or _DRIVE.match(name) or ".." in parts:
            self.refuse(f"the entry {name[:80]!r} points outside of it")
        if len(parts) > self.limits.path_depth:
            self.refuse(f"its directories nest deeper than {self.limits.path_depth}")
        return self.into.joinpath(*parts)
