"""How soon the dashboard's pages are there with 100,000 jobs in the store: the 95th percentile."""

import statistics
import time

import httpx

from app.settings import Database
from app.store import counters
from app.store.session import connect, sessions
from benchmarks._report import Bar, conclude
from benchmarks._service import client, stores
from benchmarks.list_jobs import JOBS, fill

ROUNDS = 60
WANTED_MS = 100


def milliseconds(http: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    http.get(path, headers={"Accept": "text/html"}).raise_for_status()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    with stores() as store:
        fill(store)
        engine = connect(Database(url=store.database_url))
        with sessions(engine).begin() as session:
            counters.compact(session)  # as workers do all the time
        engine.dispose()
        with store.gateway() as gateway, client(gateway) as http:
            model = http.get("/v1/models").json()["items"][0]["id"]
            job = http.get("/v1/jobs").json()["items"][0]["id"]
            pages = {
                "start": "/",
                "models": "/models",
                "model": f"/models/{model}",
                "jobs": "/jobs",
                "jobs, by status": "/jobs?status=failed",
                "job": f"/jobs/{job}",
                "new job": f"/jobs/new?model={model}",
                "usage": "/usage",
            }
            rounds = [
                {name: milliseconds(http, path) for name, path in pages.items()}
                for _ in range(ROUNDS)
            ]
    bars = [
        Bar(
            f"{name}, 95th percentile",
            "ms",
            statistics.quantiles((each[name] for each in rounds), n=20)[-1],
            WANTED_MS,
            "under",
        )
        for name in pages
    ]
    conclude("pages", bars, jobs=JOBS, rounds=rounds)


if __name__ == "__main__":
    main()
