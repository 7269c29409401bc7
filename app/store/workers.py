"""Workers announce themselves; the gateway reads what they offer."""

from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.domain.request_parts import DeviceKind, Requires, device_kind
from app.domain.workers import Capabilities, Confinement
from app.store.tables import WorkerRow

ALIVE_SECONDS = 60
"""A worker that was silent for this time counts as dead."""


def announce(
    session: Session,
    worker_id: str,
    *,
    hostname: str,
    pid: int,
    queue: str,
    device: str,
    labels: Sequence[str],
    capabilities: Capabilities | None,
    confinement: Confinement | None,
    unable: str | None,
) -> None:
    """Store what a worker can do, or why it can do nothing."""
    values = {
        "hostname": hostname,
        "pid": pid,
        "queue": queue,
        "device": device,
        "labels": list(labels),
        "capabilities": capabilities.model_dump(mode="json") if capabilities else None,
        "confinement": confinement.model_dump(mode="json") if confinement else None,
        "unable": unable,
    }
    row = insert(WorkerRow).values(id=worker_id, **values)
    session.execute(
        row.on_conflict_do_update(
            index_elements=[WorkerRow.id], set_={**values, "seen_at": func.now()}
        )
    )


def note_alive(session: Session, worker_id: str) -> bool:
    """Note that a worker is alive; return False if it has no row (any more)."""
    still = update(WorkerRow).where(WorkerRow.id == worker_id).values(seen_at=func.now())
    return session.scalar(still.returning(WorkerRow.id)) is not None


def note_claim(session: Session, worker_id: str) -> None:
    """Note that a worker has claimed a row."""
    session.execute(
        update(WorkerRow).where(WorkerRow.id == worker_id).values(claimed_at=func.now())
    )


def alive(session: Session) -> Sequence[WorkerRow]:
    """Return the workers that were seen lately, oldest first."""
    recent = WorkerRow.seen_at > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, ALIVE_SECONDS)
    return session.scalars(select(WorkerRow).where(recent).order_by(WorkerRow.started_at)).all()


def offers(session: Session) -> list[tuple[DeviceKind, list[str]]]:
    """Return the kind of device and the labels of each living worker that can run jobs."""
    able = [row for row in alive(session) if row.queue == "jobs" and row.unable is None]
    return [(device_kind(row.device), row.labels) for row in able]


def fitting(session: Session, requires: Requires) -> int:
    """Return how many living workers can run jobs that require something of their worker."""
    return sum(not requires.lacking([offer]) for offer in offers(session))
