"""How fast an upload is stored, beside a plain write with SHA-256 and fsync on the same disk.

By turns: a file over HTTP into a gateway, from the first byte to the answer, and the same bytes
from memory into a file by a program that does nothing else.
"""

import hashlib
import os
import statistics
import time
from pathlib import Path

from benchmarks._report import Bar, conclude
from benchmarks._service import send_file, stores

MIB = 1024**2
SIZE = 512 * MIB
CHUNK = bytes(range(256)) * 256
ROUNDS = 9


def plain(path: Path) -> float:
    began = time.perf_counter()
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(SIZE // len(CHUNK)):
            digest.update(CHUNK)
            file.write(CHUNK)
        file.flush()
        os.fsync(file.fileno())
    return SIZE / MIB / (time.perf_counter() - began)


def uploaded(url: str, path: Path) -> float:
    began = time.perf_counter()
    send_file(url, path)
    return SIZE / MIB / (time.perf_counter() - began)


def main() -> None:
    with stores() as store, store.gateway() as gateway:
        file = store.directory / "upload"
        rounds = [(plain(file), uploaded(gateway.url, file)) for _ in range(ROUNDS)]
    print(f"{'plain MiB/s':>12} {'ours MiB/s':>12}")
    for theirs, ours in rounds:
        print(f"{theirs:12.0f} {ours:12.0f}")
    ratio = statistics.median(ours / theirs for theirs, ours in rounds)
    conclude("uploads", [Bar("upload", "of the plain rate", ratio, 0.6, "at least")], rounds=rounds)


if __name__ == "__main__":
    main()
