"""The events of a job: those that follow, its log, the figures of its trainings."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from sqlalchemy.orm import Session

from app.domain.events import MetricValue
from app.domain.jobs import FINISHED
from app.domain.problems import NotFound
from app.services import jobs
from app.store import events


@dataclass(frozen=True)
class Event:
    """Something that happened to a job."""

    number: int
    """It counts up within the job."""
    kind: str
    data: dict[str, Any]
    """With ``at``, the time in RFC 3339."""


def seen(session: Session, tenant: str, job_id: str, number: int) -> int:
    """Return ``number`` if the job has an event of it, else 0.

    Raises:
        NotFound: The job is not the tenant's.
    """
    return number if number <= jobs.find(session, tenant, job_id).last_event else 0


def last(session: Session, job_ids: Collection[str]) -> dict[str, int]:
    """Return the number of each job's last event, by the job's id; unknown jobs are left out."""
    return events.last(session, job_ids)


def following(session: Session, tenant: str, job_id: str, number: int) -> tuple[list[Event], bool]:
    """Return what follows an event, and whether that is all for now: a retry may go on later.

    The job is read after its events: were it the other way round, a last event stored in between
    would be sent, and the stream would wait for one more.
    """
    found = [
        Event(row.number, row.kind, {**row.data, "at": row.at.isoformat().replace("+00:00", "Z")})
        for row in events.after(session, job_id, number)
    ]
    try:
        job = jobs.find(session, tenant, job_id)
    except NotFound:
        return [], True
    last = found[-1].number if found else number
    return found, job.status in FINISHED and last >= job.last_event


def lines(session: Session, job_id: str, number: int, limit: int) -> list[str]:
    """Return the newest lines of a job up to an event, each with its time in UTC.

    A line is a stage that begins, or what the job says; ``live.js`` goes on with those that follow.
    """
    return [
        f"{at.astimezone(UTC):%H:%M:%S} {words}"
        for at, words in events.lines(session, job_id, number, limit)
    ]


def figures(session: Session, job_id: str, limit: int) -> list[MetricValue]:
    """Return the figures of a job's trainings, by epoch."""
    return events.figures(session, job_id, limit)
