"""The tasks: an id in, one call. A message only says "look at this row"."""

from collections.abc import Callable

from celery import Celery

from app.store.tables import DatasetRow, ModelRow
from workers.inspection import inspect
from workers.lifecycle import run_job
from workers.worker import Worker


def register(application: Celery, worker: Worker) -> None:
    """Make ``application`` do the work of ``worker``."""

    def task(name: str, work: Callable[[str], object]) -> None:
        def run(row_id: str) -> None:
            if not worker.stopping.is_set():
                with worker.slots:
                    work(row_id)

        application.task(run, name=f"planish.{name}", ignore_result=True)

    task("job", lambda row_id: run_job(worker, row_id))
    task("model", lambda row_id: inspect(worker, ModelRow, row_id))
    task("dataset", lambda row_id: inspect(worker, DatasetRow, row_id))
    task("delivery", lambda _: worker.delivery_due.set())
