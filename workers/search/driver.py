"""Takes the turns of searches: any worker does, after a trial that it ran and when it looks."""

import structlog
from structlog.contextvars import bound_contextvars

from app import nudge
from app.domain.problems import InternalError
from app.store import deliveries, searches, transitions
from app.store.session import AWAY, first_line, transaction
from workers.search import turn
from workers.search.reading import OtherVersion, of_this_version
from workers.worker import Worker

TURNS = 16
"""Turns that a look takes at most: whoever looks also reports that its worker is alive."""

log = structlog.get_logger(__name__)


def take_turns(worker: Worker) -> None:
    """Take a turn of each search that is due, unless somebody else is taking it.

    After a turn a search rests: however many workers look around, they do not add turns.
    """
    with transaction(worker.sessions) as session:
        due = searches.due(session, TURNS)
    for search_id in due:
        with bound_contextvars(search=search_id):
            _take_turn(worker, search_id, due=True)


def try_turns(worker: Worker) -> None:
    """Take the turns that are due and raise nothing: after a fault, the next look takes them."""
    try:
        take_turns(worker)
    except AWAY as error:
        log.warning("turns of searches are put off", error=first_line(error))
    except Exception:
        log.exception("a fault of ours")


def take_turn_after(worker: Worker, job_id: str) -> None:
    """Take a turn of the search of a job that has run, if the job is a trial."""
    with transaction(worker.sessions) as session:
        search_id = searches.of_trial(session, job_id)
    if search_id is not None:
        with bound_contextvars(search=search_id):
            _take_turn(worker, search_id, due=False)


def _take_turn(worker: Worker, search_id: str, *, due: bool) -> None:
    filed = list[str]()
    try:
        with transaction(worker.sessions) as session:
            row = searches.hold(session, search_id, due=due)
            if row is None:
                return
            with of_this_version():
                filed = turn.take(session, row, worker.settings.device)
            searches.rest(session, row, _rest_seconds(worker))
    except OtherVersion as error:
        log.warning("search left to a worker of its version", reason=str(error))
        _put_off(worker, search_id)
        return
    except AWAY:
        raise
    except Exception:
        log.exception("a fault of ours")
        _fail(worker, search_id)
    for job_id in filed:
        nudge.send(worker.settings, "job", job_id)
    with transaction(worker.sessions) as session:
        due_deliveries = deliveries.due_of(session, search_id)
    for delivery_id in due_deliveries:
        nudge.send(worker.settings, "delivery", delivery_id)


def _fail(worker: Worker, search_id: str) -> None:
    """End a search whose turn cannot be taken, and its trials; if that fails too, others go on."""
    try:
        with transaction(worker.sessions) as session:
            row = searches.hold(session, search_id)
            if row is not None:
                searches.end_trials(session, row.id)
                problem = InternalError(f"A fault of ours; the log has it under {row.id}.")
                transitions.finish(session, row, "failed", problem)
    except AWAY:
        raise
    except Exception:
        log.exception("a fault of ours: the search cannot be ended")
        _put_off(worker, search_id)


def _put_off(worker: Worker, search_id: str) -> None:
    """Let others have their turns before a search that cannot have one here."""
    with transaction(worker.sessions) as session:
        row = searches.hold(session, search_id)
        if row is not None:
            searches.rest(session, row, _rest_seconds(worker))


def _rest_seconds(worker: Worker) -> float:
    return worker.settings.lease.scan_seconds / 2
