"""Claims a second, waits and the load of the database with 10, 100 and 1,000 workers.

The workers have no engine (see `benchmarks._fleet`), and the machine's cores are shared by all of
them, the database and this program: so the rate is a lower bound, and what is looked at is how it
changes with the number of workers. Claims are made one at a time in the whole deployment, each
until its commit is on the disk, so the disk bounds the rate: ``--no-sync`` leaves it out. Waits are
those of jobs that come now and then while most workers are idle, from the commit of the job to its
claim, by the database's clock.

``--workers 10,100`` takes other numbers, ``--jobs N`` another backlog.
"""

import argparse
import hashlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import psutil
from sqlalchemy.orm import Session

from app import nudge
from app.domain import ids
from app.domain.jobs import JobRequest
from app.domain.models import ModelDescription
from app.settings import Settings
from app.store import blob_rows, jobs, transitions
from app.store.session import Sessions, connect, sessions
from app.store.tables import ModelRow
from benchmarks._report import Bar, conclude
from benchmarks._service import Stores, stores
from tests.app.service import MODEL

WORKERS = (10, 100, 1000)
JOBS = 1000
TENANTS = 10
PROCESSES = 4
POOL = 20
TRICKLE = 60
PAUSE_SECONDS = 0.2
RUN_SECONDS = 1.5
"""How long a job of the trickle runs: it is renewed once."""
PATIENCE_SECONDS = 240.0


@dataclass(frozen=True)
class Figures:
    """What was measured with some number of workers."""

    workers: int
    claims_per_second: float
    """While a backlog is worked off in no time."""
    wait_ms_median: float
    wait_ms_95: float
    database_transactions_per_second: float
    """Of idle workers and the trickle."""
    database_cores: float
    """That PostgreSQL kept busy meanwhile."""


class Database:
    """The job store from outside: what it holds, and how busy it is."""

    def __init__(self, store: Stores) -> None:
        self.store = store
        self.settings = Settings.model_validate(
            {"database": {"url": store.database_url}, "broker": {"url": store.env["BROKER_URL"]}}
        )
        self.sessions: Sessions = sessions(connect(self.settings.database))
        with self.sessions.begin() as session:
            self.models = [_model(session, f"tenant {number}") for number in range(TENANTS)]

    def submit(self, count: int) -> list[str]:
        """Queue jobs of all tenants in one transaction; return their ids."""
        made = []
        with self.sessions.begin() as session:
            for number in range(count):
                tenant, model = f"tenant {number % TENANTS}", self.models[number % TENANTS]
                step = {"method": "quantize", "mode": "dynamic"}
                request = JobRequest.model_validate({"model": model, "steps": [step]})
                row = jobs.row(tenant, request)
                session.add(row)
                transitions.enter(session, row, "queued", "queued")
                made.append(row.id)
        return made

    def finished(self) -> int:
        """Count the jobs that have ended."""
        [(count,)] = self.store.rows("SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL")
        return int(count)

    def await_finished(self, count: int) -> None:
        """Wait until so many jobs have ended."""
        until = time.monotonic() + PATIENCE_SECONDS
        while (done := self.finished()) < count:
            assert time.monotonic() < until, f"{done} of {count} jobs have ended"
            time.sleep(0.02)

    def transactions(self) -> int:
        """Return how many transactions there were."""
        [(count,)] = self.store.rows(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database"
            " WHERE datname = current_database()"
        )
        return int(count)

    def processor_seconds(self) -> float:
        """Return what the server's processes have computed that live now."""
        [(pid,)] = self.store.rows(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = %s", "checkpointer"
        )
        server = psutil.Process(pid).parent()
        assert server is not None
        return sum(_processor_seconds(each) for each in (server, *server.children()))

    def waits_ms(self, made: Sequence[str]) -> list[float]:
        """Return for how long jobs were queued, by the database's clock."""
        rows = self.store.rows(
            "SELECT 1000 * extract(epoch FROM started_at - created_at)"
            " FROM jobs WHERE id = ANY(%s)",
            list(made),
        )
        return [float(wait) for (wait,) in rows]


def measured(database: Database, count: int, backlog: int) -> Figures:
    """Measure with some number of workers."""
    before = database.finished()
    with _fleet(database.store, count, 0.0):
        _settle(database, count)
        database.submit(backlog)
        began = time.monotonic()
        for _ in range(min(count, backlog)):
            nudge.send(database.settings, "job", "any")
        database.await_finished(before + backlog)
        rate = backlog / (time.monotonic() - began)
    with _fleet(database.store, count, RUN_SECONDS):
        _settle(database, count)
        transactions, seconds = database.transactions(), database.processor_seconds()
        began = time.monotonic()
        made = []
        for _ in range(TRICKLE):
            [job] = database.submit(1)
            nudge.send(database.settings, "job", job)
            made.append(job)
            time.sleep(PAUSE_SECONDS)
        database.await_finished(before + backlog + TRICKLE)
        took = time.monotonic() - began
        waits = database.waits_ms(made)
        return Figures(
            workers=count,
            claims_per_second=rate,
            wait_ms_median=statistics.median(waits),
            wait_ms_95=statistics.quantiles(waits, n=20)[18],
            database_transactions_per_second=(database.transactions() - transactions) / took,
            database_cores=(database.processor_seconds() - seconds) / took,
        )


@contextmanager
def _fleet(store: Stores, count: int, seconds: float) -> Iterator[None]:
    processes = min(PROCESSES, count)
    shares = [count // processes + (number < count % processes) for number in range(processes)]
    env = {**store.env, "DATABASE_POOL": str(POOL)}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks._fleet", str(share), str(seconds)],
            env=env,
            stdin=subprocess.PIPE,
        )
        for share in shares
    ]
    try:
        yield
    finally:
        for process in running:
            assert process.stdin is not None
            process.stdin.close()
        for process in running:
            process.wait(timeout=60)
        store.rows("DELETE FROM workers")


def _processor_seconds(process: psutil.Process) -> float:
    """Return what a process has computed; 0 for one that has ended, as vacuums do."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _settle(database: Database, count: int) -> None:
    """Wait until all workers have announced themselves, and looked once."""
    until = time.monotonic() + PATIENCE_SECONDS
    while database.store.rows("SELECT count(*) FROM workers")[0][0] < count:
        assert time.monotonic() < until, "the workers do not announce themselves"
        time.sleep(0.1)
    time.sleep(2 * database.settings.lease.scan_seconds)


def _model(session: Session, tenant: str) -> str:
    sha256 = hashlib.sha256(tenant.encode()).hexdigest()
    blob_rows.touch(session, sha256, 1)
    session.flush()
    description = ModelDescription.model_validate(MODEL).model_dump(mode="json")
    row = ModelRow(
        id=ids.new("mdl"),
        tenant=tenant,
        status="ready",
        sha256=sha256,
        onnx_sha256=sha256,
        graph_sha256=sha256,
        size_bytes=1,
        description=description,
    )
    session.add(row)
    return row.id


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", default=",".join(map(str, WORKERS)))
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument(
        "--no-sync",
        action="store_true",
        help="let PostgreSQL not wait for its disk, where that is busy with other things",
    )
    options, _ = parser.parse_known_args()
    found = []
    with stores({"fsync": "off", "synchronous_commit": "off"} if options.no_sync else {}) as store:
        database = Database(store)
        print("workers  claims/s  wait, median  wait, 95 %  transactions/s  cores of PostgreSQL")
        for count in map(int, options.workers.split(",")):
            each = measured(database, count, options.jobs)
            found.append(each)
            print(
                f"{each.workers:7} {each.claims_per_second:9.1f} {each.wait_ms_median:10.1f} ms"
                f" {each.wait_ms_95:8.1f} ms {each.database_transactions_per_second:15.1f}"
                f" {each.database_cores:20.2f}",
                flush=True,
            )
    most = found[-1]
    bars = [
        Bar(f"claims with {most.workers} workers", "1/s", most.claims_per_second, 20, "at least"),
        Bar(f"wait, 95 %, with {most.workers} workers", "ms", most.wait_ms_95, 2000, "under"),
    ]
    figures = [asdict(each) for each in found]
    conclude("fleet", bars, figures=figures, waits_for_disk=not options.no_sync)


if __name__ == "__main__":
    main()
