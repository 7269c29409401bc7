"""Unpacks zip archives: bounds the directory before reading it, checks entries, streams them."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from workers.compression.intake.unpacker import Unpacker

_CHUNK = 1 << 20
_ENCRYPTED = 0x1
_UNIX = 3
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_MAX_COMMENT = 1 << 16
_ENTRY_BYTES = 1024
"""Bytes of the directory for each allowed entry: far more than a name and its extras take."""

ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError,
          RuntimeError, struct.error)  # fmt: skip
"""Errors of ``zipfile`` on broken archives."""


def unpack(path: Path, unpacker: Unpacker) -> None:
    """Unpack a zip; only the methods *stored* and *deflate* are read."""
    try:
        if directory_bytes(path) > unpacker.limits.entries * _ENTRY_BYTES:
            unpacker.refuse(f"it holds more than {unpacker.limits.entries} entries")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > unpacker.limits.entries:
                unpacker.refuse(f"it holds more than {unpacker.limits.entries} entries")
            _refuse_overlaps(entries, unpacker)
            for entry in entries:
                _unpack_entry(archive, entry, unpacker)
    except ERRORS as error:
        unpacker.refuse(f"it is broken ({error})")


def directory_bytes(path: Path) -> int:
    """Return the size that a zip claims for its directory, without reading the directory.

    Follows the order in which ``zipfile`` looks for it: at the very end, then before a comment;
    the 64-bit record where there is one.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        start = max(0, size - _END.size - _MAX_COMMENT)
        file.seek(start)
        tail = file.read()
        at = len(tail) - _END.size
        if at < 0 or not (tail.startswith(_END_SIGNATURE, at) and tail.endswith(b"\0\0")):
            at = tail.rfind(_END_SIGNATURE)
        if at < 0 or at + _END.size > len(tail):
            raise zipfile.BadZipFile("no directory")
        claimed = int(_END.unpack_from(tail, at)[5])
        return max(claimed, _directory_bytes64(file, start + at))


def _directory_bytes64(file: BinaryIO, end: int) -> int:
    """Return the directory size in a 64-bit record, 0 without one."""
    if end < _LOCATOR.size + _END64.size:
        return 0
    file.seek(end - _LOCATOR.size)
    signature = _LOCATOR.unpack(file.read(_LOCATOR.size))[0]
    if signature != b"PK\x06\x07":
        return 0
    file.seek(end - _LOCATOR.size - _END64.size)
    return int(_END64.unpack(file.read(_END64.size))[8])


def _refuse_overlaps(entries: list[zipfile.ZipInfo], unpacker: Unpacker) -> None:
    """Refuse entries that share their packed bytes: a small file that unpacks without end."""
    end = 0
    for entry in sorted(entries, key=lambda info: info.header_offset):
        if entry.header_offset < end:
            unpacker.refuse(f"the entry {entry.filename[:80]!r} overlaps another one")
        end = entry.header_offset + entry.compress_size


def _unpack_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, unpacker: Unpacker) -> None:
    name = entry.orig_filename
    mode = entry.external_attr >> 16 if entry.create_system == _UNIX else 0
    if entry.flag_bits & _ENCRYPTED:
        unpacker.refuse(f"the entry {name[:80]!r} is encrypted")
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        unpacker.refuse(f"the entry {name[:80]!r} is packed with another method than deflate")
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        unpacker.refuse(f"the entry {name[:80]!r} is a link or a device")
    if name.endswith("/"):
        unpacker.directory(name)
    else:
        unpacker.file(name, _pieces(archive, entry))


def _pieces(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(entry) as file:
        while piece := file.read(_CHUNK):
            yield piece
