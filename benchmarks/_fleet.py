"""``python -m benchmarks._fleet WORKERS SECONDS``: workers without an engine, as threads.

They take nudges from the queue, claim in the order of turns, renew, and publish, with the very
statements of real workers; like these they also look at the table by themselves, report that they
are alive, and reap. What a run computes is a pause. They share the process's pool, as a thousand
real ones share PgBouncer's. The process ends when its standard input does.
"""

import random
import sys
import threading
import time
from contextlib import suppress

import redis

from app import nudge
from app.domain import ids
from app.domain.jobs import Usage
from app.reap import OVERDUE_SECONDS
from app.settings import Settings
from app.store import chores, claims, reaping, runs, turns, workers
from app.store.leases import LeaseLost
from app.store.session import AWAY, Sessions, connect, sessions, transaction

OFFER = claims.WorkerOffer("cpu")


class Fleet:
    """The workers of one process."""

    def __init__(self, settings: Settings, seconds: float) -> None:
        self.settings = settings
        self.sessions: Sessions = sessions(connect(settings.database))
        self.seconds = seconds
        self.stopping = threading.Event()

    def work(self) -> None:
        """Be one worker until the process ends."""
        name, lease = ids.new("wrk"), self.settings.lease
        queue = redis.Redis(
            unix_socket_path=self.settings.broker.url.removeprefix("redis+socket://")
        )
        while not self._announce(name):
            time.sleep(random.uniform(0, lease.scan_seconds))
        look = time.monotonic() + random.uniform(0, lease.scan_seconds)
        while not self.stopping.is_set():
            left = max(0.05, look - time.monotonic())
            with suppress(redis.RedisError, *AWAY):
                if queue.brpop([nudge.QUEUES["job"]], timeout=left) is not None:
                    self._work_off(name)
                if time.monotonic() >= look:
                    look = time.monotonic() + lease.scan_seconds * random.uniform(0.75, 1.25)
                    self._look(name)
                    self._work_off(name)

    def _announce(self, name: str) -> bool:
        """Announce a worker; return False where too many do so at one time."""
        with suppress(*AWAY), transaction(self.sessions) as session:
            workers.announce(
                session,
                name,
                hostname="simulated",
                pid=0,
                queue="jobs",
                device="cpu",
                labels=[],
                capabilities=None,
                confinement=None,
                unable=None,
            )
            return True
        return False

    def _look(self, name: str) -> None:
        with transaction(self.sessions) as session:
            workers.note_alive(session, name)
        with transaction(self.sessions) as session:
            if reaping.try_lock(session):
                chores.do(session, "fail overdue", name, OVERDUE_SECONDS, reaping.fail_overdue)
                reaping.reap_jobs(session, self.settings.lease.losses)

    def _work_off(self, name: str) -> None:
        lease = self.settings.lease
        while not self.stopping.is_set():
            with transaction(self.sessions) as session:
                job = turns.next_job(session, OFFER, {})
                if job is None:
                    return
                taken = claims.take(session, job, name, lease.seconds)
            if taken is None:
                continue
            with transaction(self.sessions) as session:
                claim = claims.begin(session, taken)
            assert claim is not None, "these jobs can be run"
            until = time.monotonic() + self.seconds
            with suppress(LeaseLost):
                while (left := until - time.monotonic()) > 0:
                    time.sleep(min(left, lease.renew_seconds))
                    with transaction(self.sessions) as session:
                        runs.renew(session, claim, lease.seconds)
                with transaction(self.sessions) as session:
                    runs.publish(session, claim, None, (), None, Usage())


def main() -> None:
    """Run the threads until standard input ends."""
    count, seconds = int(sys.argv[1]), float(sys.argv[2])
    fleet = Fleet(Settings(), seconds)
    threads = [threading.Thread(target=fleet.work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    fleet.stopping.set()
    for thread in threads:
        thread.join(timeout=10)


if __name__ == "__main__":
    main()
