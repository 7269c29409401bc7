"""Writes and hashes files of a job directory; a file is complete or absent."""

import hashlib
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file atomically: a reader sees all of it or none."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
