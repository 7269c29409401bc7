"""How many ``GET /v1/jobs/{id}`` the gateway answers, beside a bare FastAPI endpoint.

Both have the same PostgreSQL, the same uvicorn settings and the same load, by turns. The bare one
asks for one row by its primary key and answers five of its columns; ours shows a finished job
whole.
"""

import statistics
import subprocess
import sys

import psutil

from app.local.server import Server
from app.services import keys
from app.settings import Database
from app.store.session import connect, sessions
from benchmarks._report import Bar, conclude
from benchmarks._service import Stores, answers, client, finish, free_port, stores, submit, upload
from tests.e2e.service import small_model

ROUNDS = 30
TURN_SECONDS = 0.5


def bare(store: Stores, job: str) -> Server:
    url = f"http://127.0.0.1:{free_port()}/jobs/{job}"
    port = url.split(":")[2].partition("/")[0]
    argv = [sys.executable, "-m", "benchmarks._bare", port]
    return Server(name="bare", argv=argv, url=url, env=store.env, answers=lambda: answers(url))


def finished_job(store: Stores) -> str:
    with (
        store.gateway() as gateway,
        store.worker("light"),
        store.worker("jobs"),
        client(gateway) as http,
    ):
        return str(finish(http, submit(http, upload(http, small_model())))["id"])


def new_key(store: Stores) -> str:
    engine = connect(Database(url=store.database_url))
    with sessions(engine).begin() as session:
        _, key = keys.create(session, "local", "benchmark")
    engine.dispose()
    return key


def turn(server: Server, url: str, *headers: str) -> tuple[float, float]:
    """Return answers a second, and answers a second of the server's own processor time."""
    process = psutil.Process(server.pid)
    before = process.cpu_times()
    words = [sys.executable, "-m", "benchmarks._load", url, str(TURN_SECONDS), *headers]
    rate = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return rate, rate * TURN_SECONDS / used


def main() -> None:
    with stores() as store:
        job = finished_job(store)
        key = new_key(store)
        with (
            bare(store, job) as theirs,
            store.gateway() as ours,
            store.gateway(AUTH_REQUIRED="true") as keyed,
        ):
            path = f"/v1/jobs/{job}"
            rounds = [
                {
                    "bare": turn(theirs, theirs.url),
                    "ours": turn(ours, ours.url + path),
                    "ours with a key": turn(
                        keyed, keyed.url + path, f"Authorization: Bearer {key}"
                    ),
                }
                for _ in range(ROUNDS)
            ]
    print(f"{'':16} {'answers/s':>10} {'per CPU second':>15}")
    for name in rounds[0]:
        middle = [statistics.median(each[name][index] for each in rounds) for index in (0, 1)]
        print(f"{name:16} {middle[0]:10.0f} {middle[1]:15.0f}")
    bars = [
        Bar(f"GET /v1/jobs/{{id}}, {name}", "of the bare rate", ratio, 0.5, "at least")
        for name in ("ours", "ours with a key")
        for ratio in [statistics.median(each[name][0] / each["bare"][0] for each in rounds)]
    ]
    conclude("get_job", bars, rounds=rounds)


if __name__ == "__main__":
    main()
