"""``python -m benchmarks.chaos --minutes N --seed S``: nothing is lost or doubled under faults.

Three tenants keep a whole service of real processes busy while faults happen to it at random, to
processes, stores and networks at the same time. At the end every job that was accepted is there
once, has succeeded once, and its artifact is, byte for byte, that of a run that nothing disturbed;
nothing of a run is left over. The engine is that of the tests, whose artifact depends on model,
seed and epochs alone. What is random comes from the seed; when a fault meets what work is the
machine's.
"""

import argparse
import logging
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import get_args

import httpx

from app.domain.jobs import FINISHED
from app.services import keys
from app.settings import Database
from app.store.session import connect, sessions
from benchmarks._disturbed import Storage, disturbed
from benchmarks._faults import GROUPS, Fault, Target, possible
from benchmarks._report import Bar, conclude
from tests.e2e import engine
from tests.e2e.service import Service, small_model
from tests.waiting import eventually

TENANTS = ("acme", "globex", "initech")
ACTIVE = 4
"""Jobs that a tenant has at one time."""
EPOCHS = (1, 15)
PAUSE_SECONDS = 0.5
"""The longest that passes between two faults of a group."""
PATIENCE_SECONDS = 180.0
"""For what was accepted to end, once nothing is at fault any more."""


@dataclass
class Load:
    """A tenant that submits jobs, again and again under one key until it is answered."""

    name: str
    service: Service
    key: str
    chance: random.Random
    stopping: threading.Event
    model: str = ""
    accepted: dict[str, int] = field(default_factory=dict)
    """By name: the epochs of the job."""
    active: set[str] = field(default_factory=set)
    failure: BaseException | None = None

    def prepare(self) -> None:
        """Upload a model of its own and wait until it is ready."""
        seed = TENANTS.index(self.name)
        binary = {"Content-Type": "application/octet-stream"}
        made = self._ask("POST", "/v1/models", content=small_model(seed), headers=binary)
        self.model = str(made.json()["id"])
        path = f"/v1/models/{self.model}"
        eventually(lambda: self._ask("GET", path).json()["status"] == "ready", 120, "inspection")

    def run(self) -> None:
        """Submit until told to stop."""
        try:
            while not self.stopping.is_set():
                self._forget_finished()
                if len(self.active) < ACTIVE:
                    self._submit()
                time.sleep(self.chance.uniform(0.05, 0.3))
        except BaseException as error:  # noqa: BLE001 (it is raised where it is waited for)
            self.failure = error

    def _submit(self) -> None:
        name, epochs = (
            str(uuid.UUID(int=self.chance.getrandbits(128))),
            self.chance.randint(*EPOCHS),
        )
        step = {"method": "quantize", "mode": "float16", "force": True}
        body = {
            "model": self.model,
            "name": name,
            "steps": [{**step, "ignore": [f"epochs={epochs}"]}],
        }
        made = self._ask("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": name})
        self.accepted[name] = epochs
        self.active.add(str(made.json()["id"]))

    def _forget_finished(self) -> None:
        for job in list(self.active):
            if self._ask("GET", f"/v1/jobs/{job}").json()["status"] in FINISHED:
                self.active.remove(job)

    def _ask(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **body: object
    ) -> httpx.Response:
        """Ask until there is an answer, as a careful client does."""
        own = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = httpx.request(
                    method,
                    f"{self.service.gateway.url}{path}",
                    headers=own,
                    timeout=30,
                    trust_env=False,
                    **body,  # type: ignore[arg-type]
                )
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.is_success:
                return answer
            busy = answer is None or answer.status_code in {409, 429, 503}
            assert busy, answer and (answer.status_code, answer.text)
            assert time.monotonic() < until, "nothing answers"
            time.sleep(0.2)


@dataclass(frozen=True)
class Verdict:
    """What became of what was accepted."""

    faults: dict[str, int]
    jobs: int
    lost: int
    doubled: int
    different: int
    failed: int
    left_over: int
    longest_seconds: float
    """From submission to the end of the slowest job."""


def chaos(
    seconds: float, seed: int, most_faults: int | None = None, storage: Storage = "disk"
) -> Verdict:
    """Disturb a service for a while; return what became of the work that it was given."""
    chance = random.Random(seed)
    with disturbed(chance, storage) as target, ExitStack() as closing:
        stopping = threading.Event()
        loads = [
            Load(name, target.service, key, random.Random(f"{seed} {name}"), stopping)
            for name, key in _keys(target.service).items()
        ]
        for load in loads:
            load.prepare()
        threads = [threading.Thread(target=load.run, name=load.name) for load in loads]
        closing.callback(stopping.set)
        for thread in threads:
            thread.start()
        # The threads live on until the end: the processes that they start end with them.
        pool = closing.enter_context(ThreadPoolExecutor(len(GROUPS)))
        planned = most_faults or int(seconds * len(GROUPS) / (PAUSE_SECONDS / 2))
        plan = chance.choices(possible(target), k=planned)
        faults = _disturb(target, pool, plan, time.monotonic() + seconds)
        stopping.set()
        for thread, load in zip(threads, loads, strict=True):
            thread.join()
            if load.failure is not None:
                print(*target.service.complaints())
                raise load.failure
        return _judge(target, loads, faults)


def _disturb(
    target: Target, pool: ThreadPoolExecutor, plan: Sequence[Fault], until: float
) -> Counter[str]:
    """Carry out a plan, as far as the time allows; return the names of what happened."""
    seeds = [target.chance.random() for _ in GROUPS]
    groups = [
        pool.submit(
            _one_by_one,
            replace(target, chance=random.Random(seed)),
            [fault for fault in plan if fault in group],
            until,
        )
        for seed, group in zip(seeds, GROUPS, strict=True)
    ]
    return sum((each.result() for each in groups), Counter[str]())


def _one_by_one(target: Target, faults: Sequence[Fault], until: float) -> Counter[str]:
    done = Counter[str]()
    for fault in faults:
        target.pause(PAUSE_SECONDS)
        if time.monotonic() > until:
            break
        began = time.monotonic()
        fault(target)
        print(f"{fault.__name__} {time.monotonic() - began:.1f} s", flush=True)
        done[fault.__name__] += 1
    return done


def _judge(target: Target, loads: list[Load], faults: Counter[str]) -> Verdict:
    service = target.service
    epochs = {name: count for load in loads for name, count in load.accepted.items()}
    eventually(
        lambda: not service.rows("SELECT 1 FROM jobs WHERE finished_at IS NULL"),
        PATIENCE_SECONDS,
        "the end of all jobs",
    )
    rows = service.rows("""
        SELECT j.name, j.id, j.status, m.graph_sha256,
            (SELECT min(sha256) FROM artifacts a WHERE a.job_id = j.id),
            (SELECT count(*) FROM artifacts a WHERE a.job_id = j.id),
            extract(epoch FROM j.finished_at - j.created_at)
        FROM jobs j JOIN models m ON m.id = j.model_id
    """)
    graphs = {graph: service.stored(graph) for graph in {row[3] for row in rows}}
    found = Counter(name for name, *_ in rows)
    ends = dict(
        service.rows(
            "SELECT job_id, count(*) FROM events WHERE kind = 'state'"
            " AND data->>'status' IN ('succeeded', 'failed', 'cancelled') GROUP BY job_id"
        )
    )
    different = 0
    for name, _, status, graph, artifact, count, _ in rows:
        if status == "succeeded" and name in epochs:
            undisturbed = engine.expected(graphs[graph], [epochs[name]])
            different += count != 1 or service.stored(artifact) != undisturbed
    return Verdict(
        faults=dict(faults),
        jobs=len(epochs),
        lost=sum(name not in found for name in epochs),
        doubled=sum(count > 1 for count in found.values())
        + sum(ends.get(job) != 1 for _, job, *_ in rows),
        different=different,
        failed=sum(status != "succeeded" for _, _, status, *_ in rows),
        left_over=_left_over(service),
        longest_seconds=max((float(row[6]) for row in rows), default=0.0),
    )


def _left_over(service: Service) -> int:
    """Count what runs have left: job directories of living workers, and unfinished uploads."""
    service.sweep()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        alive = {lock.stem for lock in service.directory.glob("*.lock")}
        roots = [root for root in service.directory.glob("wrk_*/") if root.name in alive]
        left = [place for root in roots for place in root.glob("*/")]
        if not left and not service.incoming():
            return 0
        time.sleep(0.2)
    return len(left) + len(service.incoming())


def _keys(service: Service) -> dict[str, str]:
    engine_ = connect(Database(url=service.postgres.url))
    try:
        with sessions(engine_).begin() as session:
            return {name: keys.create(session, name, "chaos")[1] for name in TENANTS}
    finally:
        engine_.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=int, help="end after so many, if that is earlier")
    parser.add_argument("--storage", choices=get_args(Storage), default="disk")
    options, _ = parser.parse_known_args()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each object of the bucket
    verdict = chaos(options.minutes * 60, options.seed, options.faults, options.storage)
    bars = [
        Bar("jobs that were lost", "jobs", verdict.lost, 1, "under"),
        Bar("jobs that were doubled", "jobs", verdict.doubled, 1, "under"),
        Bar("artifacts that are different", "jobs", verdict.different, 1, "under"),
        Bar("jobs that failed", "jobs", verdict.failed, 1, "under"),
        Bar("things left over", "things", verdict.left_over, 1, "under"),
    ]
    print(f"{sum(verdict.faults.values())} faults, {verdict.jobs} jobs", end="; ")
    print(f"the slowest took {verdict.longest_seconds:.1f} s")
    conclude(
        "chaos" if options.storage == "disk" else "chaos_bucket",
        bars,
        seed=options.seed,
        minutes=options.minutes,
        verdict=vars(verdict),
    )


if __name__ == "__main__":
    main()
