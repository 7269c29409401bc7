"""``python -m tests.e2e.worker QUEUE``: the real worker process with the engine of the tests."""

import sys

from app.settings import Settings
from workers.celery import run

if __name__ == "__main__":
    queue = sys.argv[1]
    assert queue in {"jobs", "light"}
    run(Settings(), queue, "cpu", entry="tests.e2e.engine:main")  # type: ignore[arg-type]
