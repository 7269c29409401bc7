"""``python -m benchmarks.chaos --minutes N --seed S``: nothing is lost or doubled under faults.

Three tenants keep a whole service of real processes busy while faults happen to it at random, to
processes, stores and networks at the same time. At the end every job that was accepted is there
once, has succeeded once, and its artifact is, byte for byte, that of a run that nothing disturbed;
nothing of a run is left over, and no log holds a secret. The engine is that of the tests, whose
artifact depends on model, seed and epochs alone. What is random comes from the seed; when a fault
meets what work is the machine's.

Faults follow one another closely, so that little work gets done between them; with ``--spread``
they are spread over all of the time, and more jobs are met by one.
"""

import argparse
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import get_args

from app.services import keys
from app.settings import Database
from app.store.session import connect, sessions
from benchmarks._disturbed import Storage, disturbed
from benchmarks._faults import GROUPS, Fault, Target, possible
from benchmarks._report import Bar, conclude
from benchmarks._tenants import TENANTS, Load
from benchmarks._verdict import Verdict, judge
from tests.e2e.service import Service

PAUSE_SECONDS = 0.5
"""The longest that passes between two faults of a group."""


def chaos(
    seconds: float,
    seed: int,
    most_faults: int | None = None,
    storage: Storage = "disk",
    *,
    spread: bool = False,
) -> Verdict:
    """Disturb a service for a while; return what became of the work that it was given.

    Args:
        seconds: for how long.
        seed: of what is random.
        most_faults: how many faults there are; None for as many as there is time for.
        storage: what it stores files in.
        spread: whether the faults are spread over the time, in place of one right after the other.
    """
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
        faults = _disturb(target, pool, plan, seconds, spread=spread)
        stopping.set()
        for thread, load in zip(threads, loads, strict=True):
            thread.join()
            if load.failure is not None:
                print(*target.service.complaints())
                raise load.failure
        return judge(target.service, loads, faults)


def _disturb(
    target: Target,
    pool: ThreadPoolExecutor,
    plan: Sequence[Fault],
    seconds: float,
    *,
    spread: bool,
) -> Counter[str]:
    """Carry out a plan, as far as the time allows; return the names of what happened."""
    seeds = [target.chance.random() for _ in GROUPS]
    groups = [
        pool.submit(
            _one_by_one,
            replace(target, chance=random.Random(seed)),
            [fault for fault in plan if fault in group],
            seconds,
            spread=spread,
        )
        for seed, group in zip(seeds, GROUPS, strict=True)
    ]
    return sum((each.result() for each in groups), Counter[str]())


def _one_by_one(
    target: Target, faults: Sequence[Fault], seconds: float, *, spread: bool
) -> Counter[str]:
    done = Counter[str]()
    began = time.monotonic()
    moments = sorted(target.chance.uniform(0, seconds) for _ in faults)
    for fault, moment in zip(faults, moments, strict=True):
        if spread:
            time.sleep(max(0.0, began + moment - time.monotonic()))
        else:
            target.pause(PAUSE_SECONDS)
            if time.monotonic() > began + seconds:
                break
        at = time.monotonic()
        fault(target)
        print(f"{fault.__name__} {time.monotonic() - at:.1f} s", flush=True)
        done[fault.__name__] += 1
    return done


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
    parser.add_argument(
        "--spread", action="store_true", help="spread --faults over all of the minutes"
    )
    parser.add_argument("--storage", choices=get_args(Storage), default="disk")
    options, _ = parser.parse_known_args()
    if options.spread and options.faults is None:
        parser.error("--spread needs --faults: how many are spread")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each object of the bucket
    verdict = chaos(
        options.minutes * 60,
        options.seed,
        options.faults,
        options.storage,
        spread=options.spread,
    )
    bars = [
        Bar("jobs that were lost", "jobs", verdict.lost, 1, "under"),
        Bar("jobs that were doubled", "jobs", verdict.doubled, 1, "under"),
        Bar("artifacts that are different", "jobs", verdict.different, 1, "under"),
        Bar("jobs that failed", "jobs", verdict.failed, 1, "under"),
        Bar("things left over", "things", verdict.left_over, 1, "under"),
        Bar("lines with a secret, or no JSON", "lines", verdict.indiscreet, 1, "under"),
        Bar("faults of ours in the logs", "lines", verdict.our_faults, 1, "under"),
    ]
    print(
        f"{sum(verdict.faults.values())} faults; {verdict.jobs} jobs in {verdict.attempts}"
        f" attempts; the slowest took {verdict.longest_seconds:.1f} s"
    )
    conclude(
        "chaos" if options.storage == "disk" else "chaos_bucket",
        bars,
        seed=options.seed,
        minutes=options.minutes,
        verdict=vars(verdict),
    )


if __name__ == "__main__":
    main()
