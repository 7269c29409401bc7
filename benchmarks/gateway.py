"""How soon the gateway answers, how much memory it has idle, and how much more an upload takes."""

import statistics
import threading
import time
from pathlib import Path

import psutil

from app.local.server import Server
from benchmarks._report import Bar, conclude
from benchmarks._service import send_file, stores

MIB = 1024**2
STARTS = 7
UPLOAD_BYTES = 2048 * MIB
IDLE_SECONDS = 3.0
LOOK_SECONDS = 0.01


def start_seconds(gateway: Server) -> tuple[float, float]:
    """Return the time from the spawn to the first answer of ``/healthz``, and the processor's."""
    began = time.perf_counter()
    with gateway:
        seconds = time.perf_counter() - began
        used = psutil.Process(gateway.pid).cpu_times()
        return seconds, used.user + used.system


def memory(gateway: Server) -> float:
    return float(psutil.Process(gateway.pid).memory_info().rss) / MIB


def highest_memory(gateway: Server, file: Path) -> float:
    """Upload a file; return the most memory that was seen meanwhile."""
    uploading = threading.Thread(target=send_file, args=(gateway.url, file))
    uploading.start()
    highest = 0.0
    while uploading.is_alive():
        highest = max(highest, memory(gateway))
        time.sleep(LOOK_SECONDS)
    return highest


def main() -> None:
    with stores() as store:
        starts = [start_seconds(store.gateway()) for _ in range(STARTS)]
        with store.gateway() as gateway:
            time.sleep(IDLE_SECONDS)
            idle = memory(gateway)
            file = store.directory / "upload"
            with file.open("wb") as made:
                for number in range(UPLOAD_BYTES // MIB):
                    made.write(number.to_bytes(4) * (MIB // 4))
            growth = highest_memory(gateway, file) - idle
    seconds, used = (statistics.median(each) for each in zip(*starts, strict=True))
    print(f"a start takes {used:.2f} s of processor time")
    bars = [
        Bar("start, median", "s", seconds, 3, "under"),
        Bar("resident memory, idle", "MiB", idle, 150, "under"),
        Bar("growth during a 2 GiB upload", "MiB", growth, 64, "under"),
    ]
    conclude("gateway", bars, start_seconds=starts)


if __name__ == "__main__":
    main()
