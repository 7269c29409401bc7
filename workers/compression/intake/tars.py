"""Unpacks tar archives, header by header, in constant memory.

``tarfile`` reads extended headers of any size into memory and knows links, devices and sparse
files; this walk takes plain files and directories and refuses the rest.
"""

import bz2
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from workers.compression.intake.unpacker import Unpacker

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 16
_MAX_OUTPUT = 1 << 20
_MAX_HEADER = 1 << 16
_XZ_MEMORY = 256 << 20
_FILES = {tarfile.REGTYPE, tarfile.AREGTYPE}
_PAX = {tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE}
_LONG_NAME = tarfile.GNUTYPE_LONGNAME
_EXTENDED = {*_PAX, _LONG_NAME, tarfile.XGLTYPE}
_NO_TAR = (tarfile.HeaderError, UnicodeDecodeError)
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")
_ERRORS = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)


class _Decompressor(Protocol):
    """The interface of the decompressors of bz2 and lzma."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """zlib's decompressor behind the interface of the other two."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max(max_length, 0))


class _Stream:
    """Reads exact lengths from bounded pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def pieces(self, length: int) -> Iterator[bytes]:
        while length:
            if not self._rest:
                self._rest = next(self._pieces, b"")
            if not self._rest:
                raise EOFError("it ends too early")
            piece, self._rest = self._rest[:length], self._rest[length:]
            length -= len(piece)
            yield piece

    def read(self, length: int) -> bytes:
        return b"".join(self.pieces(length))


def unpack(path: Path, unpacker: Unpacker) -> None:
    """Unpack a tar, plain or packed with gzip, bzip2 or xz."""
    try:
        with path.open("rb") as file:
            _walk(_Stream(_decompressed(file)), unpacker)
    except _ERRORS as error:
        if isinstance(error, _NO_TAR) and not unpacker.names and _is_packed(path):
            unpacker.refuse(
                "it is one packed file, and no tar of files: unpack it (gunzip, bunzip2, unxz), and"
                " upload the file that comes out"
            )
        unpacker.refuse(f"it is broken ({error})")


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_PACKED[-1])).startswith(_PACKED)


def _walk(stream: _Stream, unpacker: Unpacker) -> None:
    overrides: dict[str, str] = {}
    headers = 0
    while (block := stream.read(_BLOCK)) != bytes(_BLOCK):
        headers += 1
        if headers > 3 * unpacker.limits.entries:
            unpacker.refuse(f"it holds more than {unpacker.limits.entries} entries")
        entry = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        if entry.type in _EXTENDED:
            overrides |= _extended(entry, stream, unpacker)
            continue
        _unpack_entry(entry, overrides, stream, unpacker)
        overrides = {}


def _extended(entry: tarfile.TarInfo, stream: _Stream, unpacker: Unpacker) -> dict[str, str]:
    """Read an extended header of the next entry; global extended headers are ignored."""
    if not 0 <= entry.size <= _MAX_HEADER:
        unpacker.refuse("an extended header is too large")
    body = stream.read(entry.size)
    stream.read(-entry.size % _BLOCK)
    if entry.type in _PAX:
        return _pax(body)
    return {"path": body.rstrip(b"\0").decode()} if entry.type == _LONG_NAME else {}


def _unpack_entry(
    entry: tarfile.TarInfo, overrides: dict[str, str], stream: _Stream, unpacker: Unpacker
) -> None:
    name = overrides.get("path", entry.name)
    size = int(overrides.get("size", entry.size))
    if size < 0:
        unpacker.refuse("an entry has a negative size")
    if any(key.startswith("GNU.sparse") for key in overrides):
        unpacker.refuse(f"the entry {name[:80]!r} is a sparse file")
    if entry.type == tarfile.DIRTYPE:
        unpacker.directory(name)
    elif entry.type in _FILES:
        unpacker.file(name, stream.pieces(size))
        stream.read(-size % _BLOCK)
    else:
        unpacker.refuse(f"the entry {name[:80]!r} is a link or a device")


def _pax(body: bytes) -> dict[str, str]:
    """Read an extended header's records: a length, a key, ``=``, a value, a line feed."""
    records = {}
    while body.strip(b"\0"):
        length = int(body.split(b" ", 1)[0])
        if not 0 < length <= len(body):
            raise tarfile.HeaderError("bad extended header")
        key, _, value = body[:length].split(b" ", 1)[1].rstrip(b"\n").partition(b"=")
        records[key.decode()] = value.decode()
        body = body[length:]
    return records


def _decompressed(file: BinaryIO) -> Iterator[bytes]:
    """Yield the tar's bytes in pieces of at most 1 MiB."""
    head = file.read(_BLOCK)
    file.seek(0)
    if not head.startswith(_PACKED):
        while piece := file.read(_CHUNK):
            yield piece
        return
    decompressor, data = _decompressor(head), file.read(_CHUNK)
    while data or not decompressor.needs_input:
        if piece := decompressor.decompress(data, _MAX_OUTPUT):
            yield piece
        data = b""
        if decompressor.eof:  # another stream may follow, as parallel packers write them
            data = decompressor.unused_data or file.read(_CHUNK)
            if not data.strip(b"\0"):
                return
            decompressor = _decompressor(data)
        elif decompressor.needs_input:
            data = file.read(_CHUNK)


def _decompressor(head: bytes) -> _Decompressor:
    if head.startswith(b"\x1f\x8b"):
        return _Gzip()
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
