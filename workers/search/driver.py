"""Who takes the turns of searches: any worker, after each trial and whenever it looks around."""

import structlog
from pydantic import ValidationError
from structlog.contextvars import bound_contextvars

from app import nudge
from app.domain.problems import InternalError
from app.store import deliveries, searches, transitions
from app.store.session import AWAY, transaction
from workers.search import turn
from workers.worker import Worker

log = structlog.get_logger(__name__)


def take_turns(worker: Worker) -> None:
    """Take a turn of each search that goes on, but of those whose turn somebody else takes."""
    with transaction(worker.sessions) as session:
        going = searches.going(session)
    for search_id in going:
        with bound_contextvars(search=search_id):
            _take_turn(worker, search_id)


def _take_turn(worker: Worker, search_id: str) -> None:
    filed = list[str]()
    try:
        with transaction(worker.sessions) as session:
            row = searches.hold(session, search_id)
            filed = turn.take(session, row, worker.settings.device) if row is not None else []
    except ValidationError as error:
        log.warning("search left to a worker of its version", errors=error.error_count())
        return
    except AWAY:
        raise
    except Exception:
        log.exception("a fault of ours")
        _fail(worker, search_id)
    for job_id in filed:
        nudge.send(worker.settings, "job", job_id)
    with transaction(worker.sessions) as session:
        due = deliveries.due_of(session, search_id)
    for delivery_id in due:
        nudge.send(worker.settings, "delivery", delivery_id)


def _fail(worker: Worker, search_id: str) -> None:
    """End a search whose turn cannot be taken; its trials end with it."""
    with transaction(worker.sessions) as session:
        row = searches.hold(session, search_id)
        if row is not None:
            searches.end_trials(session, row.id)
            problem = InternalError(f"A fault of ours; the log has it under {row.id}.")
            transitions.finish(session, row, "failed", problem)
