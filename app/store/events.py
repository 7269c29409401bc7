"""The event stream of a job: appended in the transaction of the change, read from a number on."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from app.domain.events import Kind, MetricValue
from app.store.tables import EventRow, JobRow, Json


def append(session: Session, job_id: str, kind: Kind, data: Json) -> int:
    """Append one event and return its number, which counts up without gaps within the job.

    The job's row is locked until commit, so numbers become visible in order.
    """
    number = session.execute(
        update(JobRow)
        .where(JobRow.id == job_id)
        .values(last_event=JobRow.last_event + 1)
        .returning(JobRow.last_event)
        .execution_options(synchronize_session=False)
    ).scalar_one()
    session.add(EventRow(job_id=job_id, number=number, kind=kind, data=data))
    return number


def last(session: Session, job_ids: Collection[str]) -> dict[str, int]:
    """Return the number of each job's last event, by the job's id; unknown jobs are left out."""
    query = select(JobRow.id, JobRow.last_event).where(JobRow.id.in_(job_ids))
    return dict(session.execute(query).all())


def after(session: Session, job_id: str, number: int, limit: int = 500) -> Sequence[EventRow]:
    """Return the job's events that follow ``number``, oldest first."""
    return session.scalars(
        select(EventRow)
        .where(EventRow.job_id == job_id, EventRow.number > number)
        .order_by(EventRow.number)
        .limit(limit)
    ).all()


def figures(session: Session, job_id: str, limit: int) -> list[MetricValue]:
    """Return the last figures of the job's trainings, one an epoch and name, oldest first."""
    newest = session.scalars(
        select(EventRow.data)
        .where(
            EventRow.job_id == job_id,
            EventRow.kind == "metric",
            EventRow.data["epoch"].astext.is_not(None),
        )
        .order_by(EventRow.number.desc())
        .limit(limit)
    ).all()
    return [
        MetricValue(step=data["step"], name=data["name"], value=data["value"], epoch=data["epoch"])
        for data in newest[::-1]
    ]


def times_begun(session: Session, job_id: str) -> int:
    """Return how often a worker began to run a job: more than once where one stopped."""
    begun = EventRow.data["stage"].astext == "starting"
    query = select(func.count()).where(EventRow.job_id == job_id, EventRow.kind == "state", begun)
    return session.scalars(query).one()


def lines(session: Session, job_id: str, number: int, limit: int) -> list[tuple[datetime, str]]:
    """Return the lines of a job up to an event, oldest first: stages as they begin, and its log.

    Args:
        session: a session in a transaction.
        job_id: the job.
        number: of the last event.
        limit: how many lines are returned, the last ones.
    """
    words = func.coalesce(EventRow.data["message"].astext, EventRow.data["stage"].astext)
    logged = EventRow.kind == "log"
    candidates = (
        select(
            EventRow.number,
            EventRow.at,
            words.label("words"),
            logged.label("logged"),
            func.lag(words).over(partition_by=logged, order_by=EventRow.number).label("before"),
        )
        .where(
            EventRow.job_id == job_id,
            EventRow.number <= number,
            EventRow.kind.in_(["state", "progress", "log"]),
        )
        .subquery()
    )
    newest = session.execute(
        select(candidates.c.at, candidates.c.words)
        .where(or_(candidates.c.logged, candidates.c.before.is_distinct_from(candidates.c.words)))
        .order_by(candidates.c.number.desc())
        .limit(limit)
    ).all()
    return [(line.at, line.words) for line in newest[::-1]]
