"""``python -m tests.e2e.worker QUEUE [SECONDS]``: the real worker with the engine of the tests.

With SECONDS, its wall clock is ahead by so much (or behind).
"""

import sys
import time
from collections.abc import Callable
from functools import partial

from app.settings import Settings
from workers.celery import run


def _shifted(real: Callable[[], float], seconds: float) -> float:
    return real() + seconds


if __name__ == "__main__":
    queue, *shift = sys.argv[1:]
    if shift:
        time.time = partial(_shifted, time.time, float(*shift))
    run(Settings(), "jobs" if queue == "jobs" else "light", "cpu", entry="tests.e2e.engine:main")
