"""What a nudge does that comes at a bad moment."""

from pathlib import Path
from typing import get_args

from celery import Celery

from app import nudge
from tests.workers.worker import settings_of, worker_with
from workers import tasks

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


def test_a_nudge_that_finds_no_database_raises_nothing_into_celery(
    redis_url: str, storage_url: str, tmp_path: Path
) -> None:
    application = Celery("test", set_as_current=False)
    with worker_with(settings_of(NOWHERE, redis_url, storage_url), tmp_path) as worker:
        tasks.register(application, worker)
        for subject in get_args(nudge.Subject):
            application.tasks[f"planish.{subject}"]("any")
