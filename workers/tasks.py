"""What a worker does when there is work, and the tasks that say that there is."""

import structlog
from celery import Celery

from app import nudge
from app.store.session import AWAY
from workers.runs.inspection import inspect_next
from workers.runs.job import run_next
from workers.worker import Worker

log = structlog.get_logger(__name__)


def register(application: Celery, worker: Worker) -> None:
    """Make ``application`` do the work of ``worker``; a message says that there is some.

    The id in it is what workers of older versions look at.
    """

    def task(subject: nudge.Subject) -> None:
        def run(*_: str) -> None:
            if subject == "delivery":
                worker.delivery_due.set()
            else:
                work_off(worker)

        application.task(run, name=f"planish.{subject}", ignore_result=True)

    for subject in nudge.QUEUES:
        task(subject)


def work_off(worker: Worker) -> None:
    """Do what waits in the order of turns, one after the other; nothing where no slot is free.

    Whoever holds a slot goes on until nothing waits, and looks once more where somebody else was
    told of work meanwhile: no call is in vain.
    """
    worker.work_due.set()
    while worker.work_due.is_set() and not worker.stopping.is_set():
        with worker.slots.one() as taken:
            if not taken:
                return
            worker.work_due.clear()
            if not _worked_off(worker):
                return


def _worked_off(worker: Worker) -> bool:
    """Work until nothing waits; return False where that was not to be."""
    next_one = run_next if worker.queue == "jobs" else inspect_next
    try:
        while worker.ability.lacking is None and not worker.stopping.is_set():
            if not next_one(worker):
                return True
    except AWAY as error:
        log.warning("put off", error=str(error).partition("\n")[0])
    except Exception:
        log.exception("a fault of ours")
    return False
