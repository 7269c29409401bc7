"""How long what happens all the time takes in a job store of a million jobs, beside a small one.

In the large one a thousand tenants have jobs that wait.

Statements of workers and gateways as they are, each in a transaction that is rolled back: a turn
and its claim, one page of a list, what is reaped, deliveries that are due, events, figures for
``/metrics``, and a portion of what is too old. The rows are made by the database itself.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.domain import ids
from app.settings import Retention
from app.store import (
    blob_rows,
    claims,
    counters,
    delivery_turns,
    events,
    jobs,
    leases,
    listing,
    reaping,
    retention,
    stats,
    turns,
)
from app.store.tables import JobRow
from benchmarks._report import Bar, conclude
from benchmarks._service import stores
from benchmarks.fleet import Database

ROUNDS = 25
QUEUED = 1000
"""In the small store already: they are what a claim chooses from."""
WAITING_SHARE = 50
"""In the large store: a waiting job for so many that have ended."""
RUNNING = 64
OFFER = claims.WorkerOffer("cpu")
TENANT = "tenant 1"

_JOBS = """
    INSERT INTO jobs SELECT copy.* FROM jobs AS pattern, generate_series(1, {count}) AS number,
    jsonb_populate_record(pattern, jsonb_build_object(
        'id', 'job_' || number,
        'tenant', 'tenant ' || mod(number, 10),
        'status', CASE WHEN mod(number, 1000) = 0 THEN 'failed' ELSE 'succeeded' END,
        'created_at', now() - number * interval '30 seconds',
        'finished_at', now() - number * interval '30 seconds',
        'last_event', 10
    )) AS copy WHERE pattern.id = '{pattern}'"""
_WAITING = """
    INSERT INTO jobs SELECT copy.* FROM jobs AS pattern, generate_series(1, {count}) AS number,
    jsonb_populate_record(pattern, jsonb_build_object(
        'id', 'job_w' || number,
        'tenant', 'waiting ' || mod(number, 1000),
        'created_at', now() - number * interval '1 second'
    )) AS copy WHERE pattern.id = '{pattern}'"""
_EVENTS = """
    INSERT INTO events (job_id, number, kind, data, at)
    SELECT 'job_' || job, number, 'progress', '{{"progress": 0.5, "stage": "training"}}', now()
    FROM generate_series(1, {jobs}) AS job, generate_series(1, {each}) AS number"""
_DELIVERIES = """
    INSERT INTO deliveries (id, tenant, webhook_id, job_id, event, message_id, payload, status, log)
    SELECT 'dlv_' || number, 'tenant ' || mod(number, 10), 'hook_' || mod(number, 10),
        'job_' || number, 'job.succeeded', 'msg_' || number, '{{}}',
        CASE WHEN mod(number, 10000) = 0 THEN 'pending' ELSE 'delivered' END, '[]'
    FROM generate_series(1, {count}) AS number"""
_BACKLOG = """
    INSERT INTO deliveries
        (id, tenant, webhook_id, job_id, event, message_id, payload, status, log, not_before)
    SELECT 'dlv_w' || number, 'tenant ' || mod(number, 10), 'hook_' || mod(number, 10),
        'job_' || number, 'job.succeeded', 'msg_w' || number, '{{}}', 'pending', '[]',
        now() - number * interval '1 millisecond'
    FROM generate_series(1, {count}) AS number"""
_WEBHOOKS = """
    INSERT INTO webhooks (id, tenant, url, events, enabled, secret)
    SELECT 'hook_' || number, 'tenant ' || number, 'http://127.0.0.1:9', '{}', true, 'x'
    FROM generate_series(0, 9) AS number"""


def _claim(session: Session) -> None:
    job = turns.next_job(session, OFFER, {})
    assert job is not None
    taken = claims.take(session, job, "worker", 60)
    assert taken is not None
    assert claims.begin(session, taken) is not None


def _take(session: Session) -> None:
    job = turns.next_job(session, OFFER, {})
    assert job is not None
    assert claims.take(session, job, "worker", 60) is not None


def _reap(session: Session) -> None:
    reaping.try_lock(session)
    reaping.fail_overdue(session)
    reaping.reject_overdue(session, 24 * 60)
    reaping.reap_jobs(session, 10)


def _figures(session: Session) -> None:
    stats.jobs_by_status(session)
    stats.queue_age(session)
    stats.pending_deliveries(session)


STATEMENTS: dict[str, Callable[[Session], object]] = {
    "take, under the lock of turns": _take,
    "take and begin": _claim,
    "reap, and fail what is overdue": _reap,
    "list 50": lambda at: listing.page(at, jobs.of_tenant(TENANT), JobRow, None, 50),
    "list 50 that failed": lambda at: listing.page(
        at, jobs.of_tenant(TENANT, status="failed"), JobRow, None, 50
    ),
    "deliveries that are due": lambda at: delivery_turns.due(at, 16),
    "a job's events": lambda at: events.after(at, "job_7", 0),
    "figures of /metrics": _figures,
    "a portion of old jobs": lambda at: retention.prune_jobs(
        at, Retention(jobs_days=340), None, 100
    ),
    "a portion of old deliveries": lambda at: retention.prune_deliveries(
        at, Retention(deliveries_days=90), 500
    ),
    "bytes that nothing refers to": lambda at: blob_rows.garbage(at, leases.now(at), 500),
}


def measured(database: Database) -> dict[str, float]:
    """Return the median milliseconds of each statement."""
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(ROUNDS):
        for name, statement in STATEMENTS.items():
            with database.sessions() as session:
                began = time.perf_counter()
                statement(session)
                times[name].append((time.perf_counter() - began) * 1000)
                session.rollback()
    return {name: statistics.median(each) for name, each in times.items()}


def fill(database: Database, count: int, each: int, backlog: int) -> None:
    """Add ended jobs with events and deliveries, jobs that wait, and deliveries that are due."""
    [pattern] = database.submit(1)
    with psycopg.connect(database.store.database_url, autocommit=True) as connection:
        # The rows refer to each other as they should; to look each up would take most of the time.
        # That is done by triggers, of which only the one that counts jobs is left.
        connection.execute("ALTER TABLE jobs ENABLE ALWAYS TRIGGER count_jobs")
        connection.execute("SET session_replication_role = replica")
        for statement in (
            _WEBHOOKS,
            _JOBS.format(pattern=pattern, count=count),
            _WAITING.format(pattern=pattern, count=count // WAITING_SHARE),
            _EVENTS.format(jobs=count, each=each),
            _DELIVERIES.format(count=count),
            _BACKLOG.format(count=backlog),
        ):
            began = time.monotonic()
            made = connection.execute(statement.encode()).rowcount
            took = time.monotonic() - began
            print(f"{made} {statement.split()[2]}: {took:.0f} s", flush=True)
    with database.sessions.begin() as session:
        counters.compact(session)  # as workers do every minute
    database.store.rows("VACUUM ANALYZE")


def run_some(database: Database) -> None:
    """Let some jobs run, as they do in a store that is used."""
    with database.sessions.begin() as session:
        for _ in range(RUNNING):
            job = turns.next_job(session, OFFER, {})
            assert job is not None
            claims.take(session, job, ids.new("wrk"), 3600)
        session.execute(text("ANALYZE jobs"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=10, help="of each job")
    parser.add_argument("--due", type=int, default=1_000_000, help="deliveries that are due")
    options, _ = parser.parse_known_args()
    # What is measured is reading; filling does not wait for the disk.
    with stores({"fsync": "off", "synchronous_commit": "off", "max_wal_size": "8GB"}) as store:
        database = Database(store)
        database.submit(QUEUED)
        run_some(database)
        small = measured(database)
        fill(database, options.jobs, options.events, options.due)
        large = measured(database)
    print(f"{'':32} {QUEUED} jobs  and {options.jobs} more")
    for name in STATEMENTS:
        print(f"{name:32} {small[name]:6.1f} ms {large[name]:8.1f} ms")
    bars = [Bar(name, "ms", large[name], 50, "under") for name in STATEMENTS]
    conclude("many_rows", bars, small=small, large=large, rows=vars(options))


if __name__ == "__main__":
    main()
