"""How many more jobs two workers do than one, where the step is not the processor's to do.

The engine is that of the tests, whose step sleeps: so what is measured is that workers do not
stand in each other's way, whatever the cores.
"""

import statistics
import time
from contextlib import ExitStack

import httpx

from benchmarks._report import Bar, conclude
from benchmarks._service import Stores, client, finish, stores, submit, upload
from tests.e2e.service import small_model

JOBS = 8
STEP = "epochs=30"
"""Sleeps 3 s."""
ROUNDS = 3


def jobs_per_second(store: Stores, http: httpx.Client, model: str, workers: int) -> float:
    with ExitStack() as running:
        for _ in range(workers):
            running.enter_context(store.worker("jobs", module="tests.e2e.worker"))
        began = time.perf_counter()
        submitted = [submit(http, model, STEP) for _ in range(JOBS)]
        for job in submitted:
            finish(http, job)
        return JOBS / (time.perf_counter() - began)


def main() -> None:
    with (
        stores() as store,
        store.gateway() as gateway,
        store.worker("light"),
        client(gateway) as http,
    ):
        model = upload(http, small_model())
        rounds = [
            tuple(jobs_per_second(store, http, model, workers) for workers in (1, 2))
            for _ in range(ROUNDS)
        ]
    print(f"{'one, jobs/s':>12} {'two, jobs/s':>12}")
    for one, two in rounds:
        print(f"{one:12.3f} {two:12.3f}")
    ratio = statistics.median(two / one for one, two in rounds)
    conclude("workers", [Bar("two workers", "times one", ratio, 1.8, "at least")], rounds=rounds)


if __name__ == "__main__":
    main()
