"""Takes back the rows of silent workers, and fails what nobody has started in time.

An attempt whose worker went silent does not count as one, because most of them have died of
something else. A row that has lost its worker too often in a row ends nevertheless.

One process at a time does this for all; locked rows are skipped.
"""

import math
from typing import TypeVar

from sqlalchemy import ColumnElement, Double, Select, cast, func, select
from sqlalchemy.orm import Session

from app.domain import wording
from app.domain.problems import EngineCrashed, FetchFailed, NotInspected, PendingLimit
from app.domain.request_parts import Requires
from app.store import fetches, inspections, leases, transitions, workers
from app.store.tables import (
    DatasetRow,
    FetchRow,
    JobRow,
    ModelRow,
    Run,
)

Row = TypeVar("Row", bound=Run)

_BATCH = 100


def try_lock(session: Session) -> bool:
    """Try to reap alone until this transaction ends; return False if another process reaps."""
    lock = func.pg_try_advisory_xact_lock(func.hashtextextended("upkeep", 0))
    return bool(session.scalar(select(lock)))


def reap_jobs(session: Session, losses: int) -> list[str]:
    """Take back jobs of silent workers; return those that wait again.

    A job with a pending cancellation is cancelled; one that has lost so many workers in a row fails
    with the reason.
    """
    waiting = []
    for job in session.scalars(_locked(JobRow, leases.is_expired(JobRow))):
        if job.cancel_requested:
            transitions.finish(session, job, "cancelled")
        elif leases.lose(job, losses):
            job.spent_attempts += 1
            pause = leases.pause_after(job.losses)
            transitions.give_back(session, job, spent=True, delay_seconds=pause)
            waiting.append(job.id)
        else:
            transitions.finish(session, job, "failed", _lost(losses))
    return waiting


def reap_inspections(
    session: Session, table: type[ModelRow] | type[DatasetRow], losses: int
) -> list[str]:
    """Take back uploads of silent workers; return those that wait again.

    An upload that has lost so many workers in a row is rejected with the reason.
    """
    waiting = []
    expired = (table.status == "inspecting") & leases.is_expired(table)
    for row in session.scalars(_locked(table, expired)):
        if leases.lose(row, losses):
            pause = leases.pause_after(row.losses)
            leases.give_back(row, spent=False, delay_seconds=pause)
            waiting.append(row.id)
        else:
            inspections.reject_row(session, row, _lost(losses))
    return waiting


def reap_fetches(session: Session, losses: int) -> None:
    """Take back fetches of silent workers; one that has lost so many in a row is given up."""
    for fetch_id, kind in session.execute(
        select(FetchRow.id, FetchRow.kind).where(leases.is_expired(FetchRow)).limit(_BATCH)
    ).all():
        upload = fetches.lock_upload(session, kind, fetch_id)
        silent = (FetchRow.id == fetch_id) & leases.is_expired(FetchRow)
        for fetch in session.scalars(_locked(FetchRow, silent)):
            if upload is not None and leases.lose(fetch, losses):
                pause = leases.pause_after(fetch.losses)
                leases.give_back(fetch, spent=False, delay_seconds=pause)
                continue
            session.delete(fetch)
            if upload is not None:
                inspections.reject_row(session, upload, _never_fetched(losses))


def fail_overdue(session: Session, longest_minutes: float = math.inf) -> None:
    """Fail jobs that have never run and waited longer than their ``limits.pending_minutes``.

    A search waits as long as its trials do, and fails as they do. Limits that are longer than
    ``longest_minutes`` are not applied.
    """
    minutes = cast(JobRow.request["limits"]["pending_minutes"].astext, Double)
    waited = func.extract("epoch", func.now() - JobRow.queued_at) / 60
    never_ran = (JobRow.status == "queued") & JobRow.started_at.is_(None)
    passed = (waited > minutes) & (minutes <= longest_minutes)
    overdue = never_ran & JobRow.search.is_(None) & passed
    for job in session.scalars(_locked(JobRow, overdue)):
        limit = job.request["limits"]["pending_minutes"]
        problem = PendingLimit(
            f"The job waited longer than its limit of {wording.minutes(limit)} for a worker"
            f"{_that_has(job)}; raise limits.pending_minutes, or retry when the queue is shorter."
        )
        transitions.finish(session, job, "failed", problem)


def reject_overdue(session: Session, minutes: float, longest_minutes: float = math.inf) -> None:
    """Reject uploads that nobody holds and that came more than so many minutes ago.

    A limit that is longer than ``longest_minutes`` is not applied.
    """
    if minutes > longest_minutes:
        return
    being_fetched = select(FetchRow.id).where(leases.is_held(FetchRow))
    for table in inspections.TABLES.values():
        waits = (table.status == "inspecting") & ~leases.is_held(table)
        is_old = table.created_at < leases.seconds_from_now(-60 * minutes)
        overdue = waits & is_old & table.id.not_in(being_fetched)
        for row in session.scalars(_locked(table, overdue)):
            problem = NotInspected(
                f"No worker inspected the upload within {wording.minutes(minutes)}:"
                f" {_who_lacks(session)}. Tell whoever runs the service, and send the file again."
            )
            fetches.forget(session, row.id)
            inspections.reject_row(session, row, problem)


def _locked(table: type[Row], condition: ColumnElement[bool]) -> Select[Row]:
    return select(table).where(condition).limit(_BATCH).with_for_update(skip_locked=True, of=table)


def _lost(losses: int) -> EngineCrashed:
    return EngineCrashed(
        f"The worker went silent {losses} times in a row; a run that takes its machine down is not"
        " started again. Try a smaller model or dataset, or retry the job."
    )


def _never_fetched(losses: int) -> FetchFailed:
    return FetchFailed(
        f"The worker that fetched the file went silent {losses} times in a row: send the request"
        " again."
    )


def _who_lacks(session: Session) -> str:
    """Return why uploads wait, as a clause."""
    light = [row.unable for row in workers.alive(session) if row.queue == "light"]
    if not light:
        return "no worker of the queue 'light', which inspects uploads, was seen lately"
    if all(light):
        return f"no worker of the queue 'light' can run anything ({light[0]})"
    return "the workers of the queue 'light' had other uploads to inspect"


def _that_has(job: JobRow) -> str:
    """Return the requirements of a job on its worker, as the end of a clause."""
    words = Requires.model_validate(
        {"device": job.requires_device, "labels": job.requires_labels}
    ).words
    return f" that has {words}" if words else ""
