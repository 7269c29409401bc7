"""Bytes that arrive: bounded, hashed, and stored while more of them come, in constant memory.

The chunks of a connection are gathered to blocks, not copied into one: the processor is what bounds
an upload.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from app.domain import contents
from app.domain.contents import HEAD_BYTES
from app.domain.problems import FieldError, Invalid, TooLarge, UnsupportedMedia

_BLOCK_BYTES = 4 * 1024**2
_BLOCK_CHUNKS = 1024  # or so many, where they are tiny

Block = list[bytes]


class Digest:
    """Counts and hashes bytes on their way, in a thread beside the one that stores them."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def hexdigest(self) -> str:
        """Return the SHA-256 of what went through."""
        return self._hash.hexdigest()

    async def through(self, chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[Block]:
        """Yield ``chunks`` in blocks; each is hashed while it is stored.

        Raises:
            TooLarge: there are more than ``limit`` bytes.
        """
        hashing = None
        async for block in _blocks(chunks):
            self.size_bytes += sum(map(len, block))
            if self.size_bytes > limit:
                raise TooLarge(f"the body has more than the {limit} bytes that are accepted here")
            if hashing is not None:
                await hashing
            hashing = asyncio.ensure_future(asyncio.to_thread(self._take, block))
            yield block
        if hashing is not None:
            await hashing

    def _take(self, block: Block) -> None:
        for chunk in block:
            self._hash.update(chunk)


async def joined(blocks: AsyncIterator[Block]) -> AsyncIterator[bytes]:
    """Yield each block in one piece."""
    async for block in blocks:
        yield b"".join(block)


async def write(path: Path, blocks: AsyncIterator[Block]) -> None:
    """Write a new file, which is on the medium at the end.

    A block is written, and sent to the disk, while the next one arrives: nearly nothing is left to
    the flush.
    """
    path.parent.mkdir(exist_ok=True)
    with path.open("xb") as file:
        writing: asyncio.Future[None] | None = None
        try:
            async for block in blocks:
                if writing is not None:
                    await writing
                writing = asyncio.ensure_future(asyncio.to_thread(_send, file, block))
        finally:
            if writing is not None:
                await writing
        file.flush()
        await asyncio.to_thread(os.fsync, file.fileno())


def _send(file: BinaryIO, block: Block) -> None:
    file.writelines(block)
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # begins to write to the disk


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[Block]:
    block: Block = []
    size = 0
    async for chunk in chunks:
        block.append(chunk)
        size += len(chunk)
        if size >= _BLOCK_BYTES or len(block) == _BLOCK_CHUNKS:
            yield block
            block, size = [], 0
    if block:
        yield block


async def plausible(chunks: AsyncIterator[bytes], kind: str) -> AsyncIterator[bytes]:
    """Pass the bytes on, after their first ones were examined.

    Raises:
        UnsupportedMedia, Invalid: as ``require_plausible``.
    """
    head = b""
    examined = False
    async for chunk in chunks:
        if examined:
            yield chunk
            continue
        head += chunk
        if len(head) >= HEAD_BYTES:
            require_plausible(kind, head[:HEAD_BYTES])
            examined = True
            yield head
    if not examined:
        require_plausible(kind, head)
        yield head


def require_plausible(kind: str, head: bytes) -> None:
    """Refuse, before it is stored, an upload whose first bytes show a wrong kind of file.

    Raises:
        UnsupportedMedia: The file is of a wrong kind; the message says what to upload instead.
        Invalid: There are no bytes.
    """
    if not head:
        fault = contents.unknown(kind, head)
        raise Invalid(fault, errors=[FieldError(pointer="#", detail="must not be empty")])
    if (said := contents.mistake(kind, head)) is not None:
        raise UnsupportedMedia(said)
