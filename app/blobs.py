"""Bytes: models, datasets, steps and artifacts, stored once under their SHA-256.

One object store, local files or a cloud's, through ``obstore``::

    incoming/<random>        an upload on its way; swept when it is old
    blobs/aa/bb/<sha256>     complete, never changed
    parts/<random>           a part of an upload that goes on; swept when that has expired
    parts/<upload>/<number>  a part of an upload that a client sends to the storage itself

An object appears complete or not at all: an upload goes to ``incoming`` and is renamed when its
last byte is stored (and on local disks flushed).
"""

import asyncio
import contextlib
import hashlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore

from app.arriving import Digest, joined, write
from app.domain.problems import NotFound, Unavailable
from app.settings import TRUSTED_MINUTES
from app.storage import Storage, translated

PARTS = "parts"
"""Where the parts of uploads that go on are kept."""
_INCOMING = "incoming"

_PART_BYTES = 8 * 1024**2  # of a multipart upload
_PARTS_AT_ONCE = 3
_LARGEST_COPY_BYTES = 5 * 1024**3  # S3 copies no larger object by itself
_FRESH = timedelta(minutes=TRUSTED_MINUTES)


@dataclass(frozen=True)
class Blob:
    """An object under its content's address."""

    sha256: str
    size_bytes: int
    key: str


@dataclass(frozen=True)
class Incoming:
    """An upload that is complete, but not published yet."""

    sha256: str
    size_bytes: int
    key: str


@dataclass(frozen=True)
class Arrived:
    """A part that a client has sent to the storage itself."""

    size_bytes: int
    etag: str | None


class Blobs(Storage):
    """Contents that are stored once, under their SHA-256."""

    async def receive(
        self, chunks: AsyncIterator[bytes], *, limit: int, into: str = _INCOMING
    ) -> Incoming:
        """Store ``chunks`` in a temporary object while they are hashed, in constant memory.

        Whatever ``chunks`` raises is raised, and nothing stays in the storage.

        Raises:
            TooLarge: there are more than ``limit`` bytes.
        """
        key = _new_key(into)
        digest = Digest()
        try:
            with translated():
                blocks = digest.through(chunks, limit)
                if self._root is not None:
                    await write(self._root / key, blocks)
                else:
                    await obstore.put_async(
                        self._store,
                        key,
                        joined(blocks),
                        chunk_size=_PART_BYTES,
                        max_concurrency=_PARTS_AT_ONCE,
                    )
        except BaseException:
            await asyncio.to_thread(self._abandon, key)
            raise
        return Incoming(digest.hexdigest(), digest.size_bytes, key)

    def publish(self, incoming: Incoming) -> None:
        """Give the upload its content's address. Again is fine; what was there is refreshed.

        The refresh makes the object young, so that a collector which saw the old one, and no row
        that names it, leaves it alone.
        """
        key = blob_key(incoming.sha256)
        with translated():
            try:
                self._move(incoming, key)
            except FileNotFoundError:
                if obstore.head(self._store, key)["size"] != incoming.size_bytes:
                    raise
            self._flush(key.rpartition("/")[0])

    def discard(self, incoming: Incoming) -> None:
        """Remove the upload; one that is gone is fine, and one that cannot be is swept later."""
        self._abandon(incoming.key)

    def put_file(self, path: Path) -> Blob:
        """Store a local file under its content's address, unless it was just stored."""
        sha256, size = _digest_of(path)
        blob = Blob(sha256, size, blob_key(sha256))
        if self._is_fresh(blob):
            return blob
        incoming = Incoming(sha256, size, _new_key(_INCOMING))
        try:
            with translated():
                obstore.put(
                    self._store,
                    incoming.key,
                    path,
                    chunk_size=_PART_BYTES,
                    max_concurrency=_PARTS_AT_ONCE,
                )
                self._flush(incoming.key)
            self.publish(incoming)
        except BaseException:
            self._abandon(incoming.key)
            raise
        return blob

    def fetch(self, sha256: str, to: Path) -> None:
        """Download into the file ``to``, which is then whole and verified, or not there.

        Raises:
            NotFound: there is no such blob.
            Unavailable: also when the stored bytes are not those of ``sha256``.
        """
        try:
            found = self._download(blob_key(sha256), to)
        except BaseException:
            to.unlink(missing_ok=True)
            raise
        if found != sha256:
            to.unlink()
            raise Unavailable(f"the storage returned other bytes than those of {sha256}")

    async def stream(self, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start`` up to, not including, ``end``.

        Each part is a request of its own, so that a slow reader holds no connection open.

        Raises:
            NotFound: there is no such blob.
        """
        async for block in self._read(blob_key(sha256), start, end):
            yield block

    def head(self, incoming: Incoming, size: int) -> bytes:
        """Return the first bytes of what was received, also if it was hashed and published since.

        Raises:
            NotFound: It is gone.
        """
        end = min(size, incoming.size_bytes)
        if end == 0:
            return b""
        published = [blob_key(incoming.sha256)] if incoming.sha256 else []
        for key in (incoming.key, *published):
            with contextlib.suppress(NotFound), translated():
                return bytes(obstore.get_range(self._store, key, start=0, end=end))
        raise NotFound("the content is no longer in the storage")

    async def join(self, parts: Sequence[Incoming]) -> AsyncIterator[bytes]:
        """Yield the bytes of parts that were received, one after the other.

        Raises:
            NotFound: One of them is gone.
        """
        for part in parts:
            async for block in self._read(part.key, 0, part.size_bytes):
                yield block

    def arrived(self, upload_id: str) -> dict[str, Arrived]:
        """Return what a client has sent to the storage itself for an upload, by key."""
        with translated():
            return {
                found["path"]: Arrived(found["size"], found["e_tag"])
                for page in obstore.list(self._store, parts_prefix(upload_id))
                for found in page
            }

    def forget_arrived(self, upload_id: str) -> None:
        """Remove what a client has sent for an upload; what comes later is swept later."""
        for key in self.arrived(upload_id):
            self._abandon(key)

    def delete(self, sha256: str, *, unless_younger_than: timedelta | None = None) -> None:
        """Delete a blob; one that is gone is fine.

        A collector passes ``unless_younger_than``: the blob may have been published again since it
        was listed.
        """
        key = blob_key(sha256)
        if unless_younger_than is not None and self._age(key) < unless_younger_than:
            return
        self._delete(key)

    def stale(self, older_than: timedelta) -> Iterator[str]:
        """Yield the SHA-256 of every blob that was stored longer ago than ``older_than``."""
        for key in self._listed("blobs", older_than):
            yield key.rpartition("/")[2]

    def sweep(self, older_than: timedelta, prefix: str = _INCOMING) -> None:
        """Remove what came in longer ago than ``older_than`` and was never published.

        Args:
            older_than: the age.
            prefix: of whole uploads, or ``PARTS``.
        """
        for key in self._listed(prefix, older_than):
            self._delete(key)
        if self._root is not None:
            oldest = time.time() - older_than.total_seconds()
            for unfinished in (self._root / prefix).glob("*"):
                with contextlib.suppress(FileNotFoundError):
                    if unfinished.stat().st_mtime < oldest:
                        unfinished.unlink()

    def check(self) -> None:
        """Ask the storage for a list, once, and give up after a few seconds."""
        with translated():
            if self._root is not None and not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
                raise Unavailable(f"the storage directory {self._root} is gone or not writable")
            obstore.list_with_delimiter(self._probe, _INCOMING)

    def _move(self, incoming: Incoming, key: str) -> None:
        if self._root is None and incoming.size_bytes > _LARGEST_COPY_BYTES:
            whole = obstore.get(self._store, incoming.key).stream(min_chunk_size=_PART_BYTES)
            obstore.put(self._store, key, whole, chunk_size=_PART_BYTES)
            obstore.delete(self._store, incoming.key)
        else:
            obstore.rename(self._store, incoming.key, key)

    def _download(self, key: str, to: Path) -> str:
        """Write the object into ``to``; return the digest of what was written."""
        digest = hashlib.sha256()
        with to.open("wb") as file, translated():
            size = obstore.head(self._store, key)["size"]
            for start in range(0, size, _PART_BYTES):
                end = min(start + _PART_BYTES, size)
                part = obstore.get_range(self._store, key, start=start, end=end)
                digest.update(part)
                file.write(part)
            file.flush()
        return digest.hexdigest()

    def _is_fresh(self, blob: Blob) -> bool:
        """Whether the blob is there, whole, and too young for any collector."""
        with translated():
            try:
                found = obstore.head(self._store, blob.key)
            except FileNotFoundError:
                return False
        young = datetime.now(UTC) - found["last_modified"] < _FRESH
        return young and found["size"] == blob.size_bytes


def blob_key(sha256: str) -> str:
    """Return the key under which the content with this digest is stored."""
    return f"blobs/{sha256[:2]}/{sha256[2:4]}/{sha256}"


def parts_prefix(upload_id: str) -> str:
    """Return the directory of the parts that a client sends to the storage itself."""
    return f"{PARTS}/{upload_id}"


def _new_key(prefix: str) -> str:
    return f"{prefix}/{uuid.uuid4().hex}"


def _digest_of(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()
