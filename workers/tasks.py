"""The Celery tasks: each message notifies a worker that there is work."""

import structlog
from celery import Celery

from app import nudge
from app.store.session import AWAY, first_line
from workers.runs.inspection import inspect_next
from workers.runs.taking import run_next
from workers.search.driver import take_turn_after, try_turns
from workers.worker import Worker

log = structlog.get_logger(__name__)


def register(application: Celery, worker: Worker) -> None:
    """Register the tasks of ``worker`` with ``application``.

    A message carries an id, which only workers of older versions use.
    """

    def task(subject: nudge.Subject) -> None:
        def run(*_: str) -> None:
            if subject == "delivery":
                worker.delivery_due.set()
            elif subject == "search":
                try_turns(worker)
            else:
                worker.fetch_due.set()
                work_off(worker)

        application.task(run, name=f"planish.{subject}", ignore_result=True)

    for subject in nudge.QUEUES:
        task(subject)


def work_off(worker: Worker) -> None:
    """Do waiting work, one item after the other in the order of turns, if a slot is free.

    The holder of a slot goes on until nothing waits. It looks once more if another call was made
    meanwhile, so no call is lost.
    """
    worker.work_due.set()
    while worker.work_due.is_set() and not worker.stopping.is_set():
        with worker.slots.take() as has_slot:
            if not has_slot:
                return
            worker.work_due.clear()
            if not _drain(worker):
                return


def _drain(worker: Worker) -> bool:
    """Work until nothing waits; return False if an error or a stop prevented that."""
    next_one = _run_next if worker.queue == "jobs" else inspect_next
    try:
        while worker.ability.lacking is None and not worker.stopping.is_set():
            if not next_one(worker):
                return True
    except AWAY as error:
        log.warning("put off", error=first_line(error))
    except Exception:
        log.exception("a fault of ours")
    return False


def _run_next(worker: Worker) -> bool:
    """Run the next job, and go on with its search if it was a trial; return False without a job."""
    job_id = run_next(worker)
    if job_id is None:
        return False
    take_turn_after(worker, job_id)
    return True
