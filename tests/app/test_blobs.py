"""Bytes, on local files and on a real S3 protocol server."""

import asyncio
import hashlib
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import obstore
import pytest

from app.blobs import Blobs, Incoming, blob_key
from app.domain.problems import NotFound, TooLarge, Unavailable
from tests.disk import MIB, small_disk
from tests.s3 import BUCKET, server, turning_away, url
from tests.waiting import eventually

NOW = timedelta(0)


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


async def chunked(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def receive(blobs: Blobs, data: bytes, limit: int = 64 * MIB) -> Incoming:
    return asyncio.run(blobs.receive(chunked(data), limit=limit))


def stored(blobs: Blobs, data: bytes) -> str:
    incoming = receive(blobs, data)
    blobs.publish(incoming)
    return incoming.sha256


def keys(blobs: Blobs) -> list[str]:
    return [found["path"] for page in obstore.list(blobs._store) for found in page]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The endpoint of a server that speaks S3, with an empty bucket."""
    with server() as endpoint:
        yield endpoint


@pytest.fixture(params=["file", "s3"])
def blobs(request: pytest.FixtureRequest, storage_url: str) -> Blobs:
    if request.param == "file":
        return Blobs.open(storage_url)
    return Blobs.open(url(request.getfixturevalue("s3"), Path(storage_url).parent.name))


@pytest.mark.parametrize("size", [0, 1, 4 * MIB, 8 * MIB + 1, 20 * MIB])
def test_what_was_received_is_what_is_fetched(blobs: Blobs, tmp_path: Path, size: int) -> None:
    data = content(size)
    incoming = receive(blobs, data)
    assert (incoming.sha256, incoming.size_bytes) == (hashlib.sha256(data).hexdigest(), size)
    blobs.publish(incoming)
    blobs.fetch(incoming.sha256, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == data
    assert keys(blobs) == [blob_key(incoming.sha256)]


def test_nothing_is_visible_before_it_is_published(blobs: Blobs, tmp_path: Path) -> None:
    incoming = receive(blobs, b"abc")
    with pytest.raises(NotFound):
        blobs.fetch(incoming.sha256, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
    blobs.discard(incoming)
    blobs.discard(incoming)
    assert keys(blobs) == []


def test_the_same_bytes_are_stored_once(blobs: Blobs) -> None:
    assert stored(blobs, b"abc") == stored(blobs, b"abc")
    assert len(keys(blobs)) == 1


def test_publishing_again_changes_nothing(blobs: Blobs) -> None:
    incoming = receive(blobs, b"abc")
    blobs.publish(incoming)
    blobs.publish(incoming)
    assert keys(blobs) == [blob_key(incoming.sha256)]


def test_publishing_what_is_gone_is_a_problem(blobs: Blobs) -> None:
    incoming = receive(blobs, b"abc")
    blobs.discard(incoming)
    with pytest.raises(NotFound):
        blobs.publish(incoming)


def test_more_than_the_limit_is_refused_and_leaves_nothing(blobs: Blobs) -> None:
    receive(blobs, content(MIB), limit=MIB)
    before = keys(blobs)
    with pytest.raises(TooLarge, match="1048575 bytes"):
        receive(blobs, content(MIB), limit=MIB - 1)
    with pytest.raises(TooLarge):
        receive(blobs, content(20 * MIB), limit=18 * MIB)
    assert keys(blobs) == before


class Gone(Exception):  # noqa: N818 (what a sender raises)
    """The sender went away."""


def test_a_sender_that_breaks_off_leaves_nothing(blobs: Blobs) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield content(18 * MIB)
        raise Gone

    with pytest.raises(Gone):
        asyncio.run(blobs.receive(broken(), limit=64 * MIB))
    assert keys(blobs) == []


def test_a_cancelled_upload_leaves_nothing(storage_url: str) -> None:
    blobs = Blobs.open(storage_url)

    async def endless() -> AsyncIterator[bytes]:
        yield content(9 * MIB)
        waiting.set()
        await asyncio.Event().wait()

    async def cancelled() -> None:
        task = asyncio.ensure_future(blobs.receive(endless(), limit=64 * MIB))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    waiting = asyncio.Event()
    asyncio.run(cancelled())
    assert blobs._root is not None
    assert not [path for path in blobs._root.rglob("*") if path.is_file()]


def test_a_file_is_stored_under_its_content(blobs: Blobs, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content(9 * MIB))
    blob = blobs.put_file(path)
    assert blob == blobs.put_file(path)
    assert (blob.key, blob.size_bytes) == (blob_key(blob.sha256), 9 * MIB)
    blobs.fetch(blob.sha256, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == path.read_bytes()
    assert keys(blobs) == [blob.key]


def test_a_truncated_object_is_replaced_by_the_next_upload(blobs: Blobs, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"whole")
    blob = blobs.put_file(path)
    obstore.put(blobs._store, blob.key, b"who")
    assert blobs.put_file(path) == blob
    blobs.fetch(blob.sha256, tmp_path / "fetched")


def test_damaged_bytes_are_never_handed_on(blobs: Blobs, tmp_path: Path) -> None:
    sha256 = stored(blobs, b"abc")
    obstore.put(blobs._store, blob_key(sha256), b"abd")
    with pytest.raises(Unavailable, match=sha256):
        blobs.fetch(sha256, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize(("start", "end"), [(0, 10 * MIB), (5, 6), (MIB - 1, 9 * MIB), (7, 7)])
def test_a_part_is_streamed_from_start_up_to_end(blobs: Blobs, start: int, end: int) -> None:
    data = content(10 * MIB)
    sha256 = stored(blobs, data)

    async def read() -> bytes:
        return b"".join([part async for part in blobs.stream(sha256, start, end)])

    assert asyncio.run(read()) == data[start:end]


def test_streaming_what_is_gone_is_a_problem(blobs: Blobs) -> None:
    async def read() -> None:
        async for _ in blobs.stream("0" * 64, 0, 1):
            pass

    with pytest.raises(NotFound):
        asyncio.run(read())


def test_old_blobs_are_found_and_young_ones_are_not(blobs: Blobs) -> None:
    sha256 = stored(blobs, b"abc")
    assert list(blobs.stale(timedelta(minutes=1))) == []
    eventually(lambda: list(blobs.stale(NOW)) == [sha256])


def test_a_collector_spares_what_was_published_again(blobs: Blobs) -> None:
    sha256 = stored(blobs, b"abc")
    blobs.delete(sha256, unless_younger_than=timedelta(minutes=1))
    assert keys(blobs) == [blob_key(sha256)]
    blobs.delete(sha256)
    blobs.delete(sha256)
    blobs.delete(sha256, unless_younger_than=timedelta(minutes=1))
    assert keys(blobs) == []


def test_old_uploads_are_swept_and_young_ones_are_not(blobs: Blobs) -> None:
    sha256 = stored(blobs, b"published")
    receive(blobs, b"forgotten")
    blobs.sweep(timedelta(minutes=1))
    assert len(keys(blobs)) == 2

    def swept() -> bool:
        blobs.sweep(NOW)
        return keys(blobs) == [blob_key(sha256)]

    eventually(swept)


UPLOAD = """
import asyncio, os, sys
from app.blobs import Blobs

def memory():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

async def chunks(count):
    global largest
    for _ in range(count):
        largest = max(largest, memory())
        yield chunk
        if count == 1:
            print("begun", flush=True)
            await asyncio.sleep(600)

chunk = os.urandom(1024 ** 2)
largest = before = memory()
blobs = Blobs.open(sys.argv[1])
mebibytes = int(sys.argv[2])
incoming = asyncio.run(blobs.receive(chunks(mebibytes), limit=1024 ** 4))
blobs.discard(incoming)
print((largest - before) // 1024 ** 2)
"""


def test_memory_does_not_grow_with_the_upload(storage_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UPLOAD, storage_url, "512"], capture_output=True, check=True
    )
    assert int(done.stdout) < 64


def test_what_a_killed_process_left_is_swept(storage_url: str) -> None:
    """An unfinished local file is not in the store's own listing."""
    blobs = Blobs.open(storage_url)
    process = subprocess.Popen(
        [sys.executable, "-c", UPLOAD, storage_url, "1"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    process.kill()
    process.communicate()
    blobs.sweep(NOW)
    assert blobs._root is not None
    assert not [path for path in blobs._root.rglob("*") if path.is_file()]


def test_a_storage_that_answers_is_ready(blobs: Blobs) -> None:
    blobs.check()
    stored(blobs, b"abc")
    blobs.check()


def test_a_storage_directory_that_is_gone_is_not_ready(storage_url: str, tmp_path: Path) -> None:
    blobs = Blobs.open(storage_url)
    (tmp_path / "storage").rename(tmp_path / "elsewhere")
    with pytest.raises(Unavailable, match="gone or not writable"):
        blobs.check()


def test_a_bucket_that_is_not_there_is_not_ready(s3: str) -> None:
    with pytest.raises(Unavailable):
        Blobs.open(url(s3, "p").replace(BUCKET, "no-such-bucket")).check()


def test_readiness_does_not_wait_for_a_server_that_is_away(s3: str) -> None:
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        Blobs.open(url("http://127.0.0.1:9", "p")).check()
    assert time.monotonic() - begun < 45, "it waited as long as a transfer may"


def test_requests_that_the_storage_turns_away_are_repeated(s3: str, tmp_path: Path) -> None:
    """Every other request gets a 503; what is stored is whole all the same."""
    data = content(20 * MIB)
    path = tmp_path / "file"
    path.write_bytes(data)
    requests = count()
    with turning_away(s3, lambda _: next(requests) % 2 == 0) as endpoint:
        blobs = Blobs.open(url(endpoint, "moody"))
        sha256 = stored(blobs, data)
        blobs.fetch(sha256, tmp_path / "fetched")
        assert blobs.put_file(path).sha256 == sha256
    assert (tmp_path / "fetched").read_bytes() == data


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 16) as place:
        blobs = Blobs.open(place.as_uri())
        sha256 = stored(blobs, content(4 * MIB))
        with pytest.raises(Unavailable, match="full"):
            receive(blobs, content(32 * MIB, seed=1))
        big = tmp_path / "big"
        big.write_bytes(content(32 * MIB, seed=2))
        with pytest.raises(Unavailable, match="full"):
            blobs.put_file(big)
        assert keys(blobs) == [blob_key(sha256)]
        assert [path.name for path in place.rglob("*") if path.is_file()] == [sha256]
        stored(blobs, content(8 * MIB, seed=3))


def test_a_file_size_limit_is_said_and_leaves_nothing(storage_url: str) -> None:
    script = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**24, 2**24))\n"
    done = subprocess.run(
        [sys.executable, "-c", script + UPLOAD, storage_url, "32"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Unavailable" in done.stderr
    blobs = Blobs.open(storage_url)
    assert blobs._root is not None
    assert not [path for path in blobs._root.rglob("*") if path.is_file()]


def test_a_file_that_cannot_be_published_leaves_nothing(storage_url: str, tmp_path: Path) -> None:
    blobs = Blobs.open(storage_url)
    assert blobs._root is not None
    (blobs._root / "blobs").touch()
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    with pytest.raises(Unavailable):
        blobs.put_file(path)
    assert [found.name for found in blobs._root.rglob("*") if found.is_file()] == ["blobs"]


def test_a_local_storage_is_private(storage_url: str) -> None:
    blobs = Blobs.open(storage_url)
    assert blobs._root is not None
    assert blobs._root.stat().st_mode & 0o777 == 0o700


# --- Helpers ---------------------------------------------------------------------------------
