"""How long a job of an idle service is queued before it runs, by the database's clock.

The engine is that of the tests, whose step does nothing: what it does comes after. The pauses
between jobs are random, so that they fall anywhere into the rhythm of whatever looks regularly.
"""

import random
import statistics
import time
from datetime import datetime

from benchmarks._report import Bar, conclude
from benchmarks._service import client, finish, stores, submit, upload
from tests.e2e.service import small_model

JOBS = 100
SEED = 0
PAUSE_SECONDS = (0.2, 0.7)


def queued_ms(job: dict[str, str]) -> float:
    created, started = (datetime.fromisoformat(job[key]) for key in ("created_at", "started_at"))
    return (started - created).total_seconds() * 1000


def main() -> None:
    pause = random.Random(SEED)
    waits = []
    with (
        stores() as store,
        store.gateway() as gateway,
        store.worker("light"),
        store.worker("jobs", module="tests.e2e.worker"),
        client(gateway) as http,
    ):
        model = upload(http, small_model())
        for _ in range(JOBS):
            time.sleep(pause.uniform(*PAUSE_SECONDS))
            waits.append(queued_ms(finish(http, submit(http, model, "epochs=0"))))
    hundredths = statistics.quantiles(waits, n=100)
    print(f"median {hundredths[49]:.1f} ms, longest {max(waits):.1f} ms")
    bars = [Bar("queued, 95th percentile", "ms", hundredths[94], 100, "under")]
    conclude("dispatch", bars, seed=SEED, queued_ms=waits)


if __name__ == "__main__":
    main()
