"""What the service adds to a small job: from its submission to its end, less the engine's time.

By turns a job over HTTP, and the engine on a copy of the same directory: in a fresh process that
has imported everything beforehand, without confinement, which so counts as the service's.
"""

import multiprocessing
import os
import shutil
import statistics
import time
from pathlib import Path

import httpx
import onnxruntime  # noqa: F401 (imported beforehand, as in the fork server)
import torch  # noqa: F401 (the same)

from app.blobs import Blobs
from app.domain.directory import MODEL, ORDER, ORIGINAL, Compress
from app.domain.steps import Quantize
from benchmarks._report import Bar, conclude
from benchmarks._service import Stores, client, finish, stores, submit, upload
from tests.e2e.service import small_model
from workers.compression.__main__ import main as engine
from workers.compression.measure.machine import default_threads

ROUNDS = 15


def job_seconds(http: httpx.Client, model: str) -> float:
    began = time.perf_counter()
    finish(http, submit(http, model))
    return time.perf_counter() - began


def run(directory: Path) -> None:
    os._exit(engine(directory))


def engine_seconds(directory: Path, scratch: Path) -> float:
    shutil.copytree(directory, scratch)
    process = multiprocessing.get_context("fork").Process(target=run, args=(scratch,))
    began = time.perf_counter()
    process.start()
    process.join()
    seconds = time.perf_counter() - began
    assert (scratch / "result.json").exists(), "the engine does not answer"
    shutil.rmtree(scratch)
    return seconds


def job_directory(store: Stores, model: str) -> Path:
    """Lay out what a worker lays out for the job."""
    directory = store.directory / "job"
    directory.mkdir()
    ((onnx, graph),) = store.rows(
        "SELECT onnx_sha256, graph_sha256 FROM models WHERE id = %s", model
    )
    blobs = Blobs.open(store.env["STORAGE_URL"])
    blobs.fetch(onnx, directory / ORIGINAL)
    blobs.fetch(graph, directory / MODEL)
    step = Quantize(method="quantize", mode="float16")
    order = Compress(steps=[step], threads=default_threads())
    (directory / ORDER).write_text(order.model_dump_json())
    return directory


def main() -> None:
    with (
        stores() as store,
        store.gateway() as gateway,
        store.worker("light"),
        store.worker("jobs"),
        client(gateway) as http,
    ):
        model = upload(http, small_model())
        directory = job_directory(store, model)
        rounds = [
            (job_seconds(http, model), engine_seconds(directory, store.directory / "copy"))
            for _ in range(ROUNDS)
        ]
    print(f"{'job, s':>10} {'engine, s':>10}")
    for whole, alone in rounds:
        print(f"{whole:10.3f} {alone:10.3f}")
    added = statistics.median(whole - alone for whole, alone in rounds)
    conclude("job_overhead", [Bar("added by the service", "s", added, 1, "under")], rounds=rounds)


if __name__ == "__main__":
    main()
