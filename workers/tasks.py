"""What a worker does for a row, and the tasks that ask for it: an id in, one call."""

from celery import Celery

from app import nudge
from app.store import inspections
from workers.runs.inspection import inspect
from workers.runs.job import run_job
from workers.worker import Worker

_LOOK_SECONDS = 0.5
"""How often a task that waits for a slot looks whether the process is to end."""


def register(application: Celery, worker: Worker) -> None:
    """Make ``application`` do the work of ``worker``; a message only says "look at this row"."""

    def task(subject: nudge.Subject) -> None:
        def run(row_id: str) -> None:
            _when_free(worker, subject, row_id)

        application.task(run, name=f"planish.{subject}", ignore_result=True)

    for subject in nudge.QUEUES:
        task(subject)


def work(worker: Worker, subject: nudge.Subject, row_id: str) -> None:
    """Do what there is to do for a row; nothing if another worker does it or did."""
    if subject == "job":
        run_job(worker, row_id)
    elif subject == "delivery":
        worker.delivery_due.set()
    else:
        inspect(worker, inspections.TABLES[subject], row_id)


def _when_free(worker: Worker, subject: nudge.Subject, row_id: str) -> None:
    while not worker.stopping.is_set():
        with worker.slots.one(_LOOK_SECONDS) as taken:
            if taken:
                work(worker, subject, row_id)
                return
