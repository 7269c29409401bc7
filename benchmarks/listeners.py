"""500 listeners of one job's events on one gateway process: its memory, and what they miss."""

import asyncio
import re
import threading
import time
from urllib.parse import urlsplit

import psutil

from app.settings import Database
from app.store import events, transitions
from app.store.session import connect, sessions
from app.store.tables import JobRow
from benchmarks._report import Bar, conclude
from benchmarks._service import client, stores, submit, upload
from tests.e2e.service import small_model

MIB = 1024**2
LISTENERS = 500
EVENTS = 300
EVERY_SECONDS = 0.05
PATIENCE_S = 200

_NUMBER = re.compile(rb"^id: (\d+)$", re.MULTILINE)


async def listen(url: str, path: str) -> list[int]:
    """Follow a job until the stream ends; return the numbers of its events as they came."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    received = b""
    while not received.endswith(b"0\r\n\r\n") and (data := await reader.read(65_536)):
        received += data
    writer.close()
    return [int(number) for number in _NUMBER.findall(received.replace(b"\r\n", b"\n"))]


async def all_of(url: str, path: str, ready: threading.Event) -> list[list[int]]:
    listening = [asyncio.ensure_future(listen(url, path)) for _ in range(LISTENERS)]
    await asyncio.sleep(5)
    ready.set()
    return await asyncio.wait_for(asyncio.gather(*listening), PATIENCE_S)


def main() -> None:
    highest = 0.0
    heard: list[list[int]] = []
    ready = threading.Event()
    with stores() as store, store.gateway() as gateway, client(gateway) as http:
        with store.worker("light"):
            job = submit(http, upload(http, small_model()))

        def hear() -> None:
            heard.extend(asyncio.run(all_of(gateway.url, f"/v1/jobs/{job}/events", ready)))

        listening = threading.Thread(target=hear)
        listening.start()
        ready.wait()
        process = psutil.Process(gateway.pid)
        engine = connect(Database(url=store.database_url))
        began = time.perf_counter()
        for number in range(EVENTS):
            with sessions(engine).begin() as session:
                data = {"progress": number / EVENTS, "stage": "measure", "eta_seconds": None}
                events.append(session, job, "progress", data)
            highest = max(highest, process.memory_info().rss / MIB)
            time.sleep(EVERY_SECONDS)
        with sessions(engine).begin() as session:
            transitions.finish(session, session.get_one(JobRow, job), "cancelled")
        while listening.is_alive():
            highest = max(highest, process.memory_info().rss / MIB)
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        with sessions(engine).begin() as session:
            last = session.get_one(JobRow, job).last_event
        engine.dispose()
    whole = list(range(1, last + 1))
    missed = sum(numbers != whole for numbers in heard) + LISTENERS - len(heard)
    bars = [
        Bar("listeners that missed an event or saw one twice", "", missed, 1, "under"),
        Bar("resident memory of the gateway, highest", "MiB", highest, 300, "under"),
    ]
    print(f"{last} events to {len(heard)} listeners in {seconds:.1f} s")
    conclude("listeners", bars, listeners=LISTENERS, events=last, seconds=seconds)


if __name__ == "__main__":
    main()
