"""How fast an upload is stored, beside a plain write with SHA-256 and fsync on the same disk."""

import asyncio
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from app.blobs import Blobs

MIB = 1024**2
SIZE = 256 * MIB
CHUNK = bytes(range(256)) * 256
ROUNDS = 5


async def body() -> AsyncIterator[bytes]:
    for _ in range(SIZE // len(CHUNK)):
        yield CHUNK


def plain(directory: Path) -> float:
    started = time.perf_counter()
    digest = hashlib.sha256()
    with (directory / "plain").open("wb") as file:
        for _ in range(SIZE // len(CHUNK)):
            digest.update(CHUNK)
            file.write(CHUNK)
        file.flush()
        os.fsync(file.fileno())
    return SIZE / MIB / (time.perf_counter() - started)


def stored(directory: Path) -> float:
    blobs = Blobs.open((directory / "storage").as_uri())
    started = time.perf_counter()
    blobs.publish(asyncio.run(blobs.receive(body(), limit=SIZE)))
    return SIZE / MIB / (time.perf_counter() - started)


def main() -> None:
    rates = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
            rates.append((plain(Path(scratch)), stored(Path(scratch))))
    ratio = statistics.median(ours / theirs for theirs, ours in rates)
    print(f"{'plain MiB/s':>12} {'ours MiB/s':>12}")
    for theirs, ours in rates:
        print(f"{theirs:12.0f} {ours:12.0f}")
    print(f"median ratio {ratio:.2f} (at least 0.60 is wanted)")
    Path("benchmarks/uploads.json").write_text(json.dumps({"rates": rates, "ratio": ratio}))


if __name__ == "__main__":
    main()
