"""Tell workers to look at a row. Only ever after commit: the job store is the truth.

A nudge that is lost delays the row until a worker looks at the table by itself, a few seconds
later; so a broker that does not answer is no reason to refuse a request.
"""

from functools import lru_cache
from typing import Literal

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from app import tracing
from app.settings import Settings

Subject = Literal["job", "model", "dataset", "delivery", "search"]

QUEUES: dict[Subject, str] = {
    "job": "jobs",
    "model": "light",
    "dataset": "light",
    "delivery": "light",
    "search": "light",
}
"""Short work never waits behind a two-hour job."""

log = structlog.get_logger(__name__)


@lru_cache(maxsize=4)
def producer(broker_url: str) -> Celery:
    """Return a Celery application that can send, and gives up within about a second."""
    application = Celery("planish", broker=broker_url, set_as_current=False)
    application.conf.update(
        task_ignore_result=True,
        broker_connection_timeout=1,
        broker_transport_options={
            "socket_timeout": 1,
            "socket_connect_timeout": 1,
            "retry_on_timeout": False,
            "max_retries": 0,
        },
    )
    return application


def send(settings: Settings, subject: Subject, row_id: str) -> bool:
    """Ask a worker to look at a row; return False, and say so in the log, if the broker is away."""
    try:
        with tracing.span(f"nudge {subject}", "producer"):
            producer(settings.broker.url).send_task(
                f"planish.{subject}", args=[row_id], queue=QUEUES[subject], retry=False
            )
    except (OperationalError, OSError) as error:
        log.warning("nudge lost", subject=subject, id=row_id, error=str(error))
        return False
    return True


def ping(settings: Settings) -> None:
    """Connect to the broker once; raise what goes wrong."""
    with producer(settings.broker.url).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=2)
