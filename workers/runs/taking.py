"""Takes the next job in the order of turns, and has it run; any thread may call it at any time."""

from functools import partial

import structlog
from pydantic import ValidationError
from structlog.contextvars import bound_contextvars

from app import nudge, tracing
from app.domain.jobs import Usage
from app.store import claims, deliveries, turns
from app.store.session import AWAY, transaction
from workers.runs.hold import FAULT_PAUSE_SECONDS, LAST_WRITE_SECONDS, retry
from workers.runs.job import Job, store_fault
from workers.sandbox import directories
from workers.worker import Worker

log = structlog.get_logger(__name__)


def run_next(worker: Worker) -> str | None:
    """Run the job whose turn it is and return its id; return None if no job can run here."""
    job_id, taken = _take_next(worker)
    if job_id is None:
        return None
    with bound_contextvars(job=job_id):
        if taken is not None:
            attributes: tracing.Attributes = {
                "job.id": job_id,
                "job.attempt": taken.attempt,
                "worker.id": worker.id,
            }
            with tracing.span("job", "consumer", parent=taken.traceparent, attributes=attributes):
                _run(worker, taken)
                _nudge_deliveries(worker, job_id)
    return job_id


def _run(worker: Worker, taken: claims.Taken) -> None:
    claimed = _begin(worker, taken)
    if claimed is not None:
        log.info("job claimed", attempt=claimed.attempt)
        with directories.place(worker.directory) as place:
            Job(worker, claimed, place).run()


def _take_next(worker: Worker) -> tuple[str | None, claims.Taken | None]:
    """Choose a job and take it; one that cannot be taken is postponed."""
    settings = worker.settings
    job_id: str | None = None
    try:
        with transaction(worker.sessions) as session:
            job_id = turns.next_job(session, worker.offer, settings.share.weights)
            if job_id is None:
                return None, None
            return job_id, claims.take(session, job_id, worker.id, settings.lease.seconds)
    except ValidationError as error:
        assert job_id is not None, "only a job's request is validated here"
        log.warning("job left to a worker of its version", job=job_id, errors=error.error_count())
    except AWAY:
        raise
    except Exception:
        if job_id is None:
            raise
        log.exception("a fault of ours: the job cannot be taken", job=job_id)
    with transaction(worker.sessions) as session:
        claims.put_off(session, job_id, FAULT_PAUSE_SECONDS)
    return job_id, None


def _begin(worker: Worker, taken: claims.Taken) -> claims.Claim | None:
    """Begin a job that was taken; return None if there is nothing to run."""

    def begin() -> claims.Claim | None:
        with transaction(worker.sessions) as session:
            claimed = claims.begin(session, taken, worker.maker)
            worker.note_claim(session, "job")
            return claimed

    try:
        return retry(begin, worker.settings.lease.seconds)
    except Exception:
        log.exception("a fault of ours: the job does not begin")
        retry(partial(store_fault, worker, taken, Usage()), LAST_WRITE_SECONDS)
        return None


def _nudge_deliveries(worker: Worker, job_id: str) -> None:
    """Notify workers to send the webhooks of a finished job at once."""
    with transaction(worker.sessions) as session:
        due = deliveries.due_of(session, job_id)
    for delivery_id in due:
        nudge.send(worker.settings, "delivery", delivery_id)
