"""Decides whose turn it is, when more work waits than can run.

The tenant with the fewest running items comes first, then the one whose last turn is longest ago;
both are divided by the tenant's weight. Within a tenant the higher priority comes first, then the
older row. The second rule is start-time fair queuing (Goyal, Vin and Cheng, SIGCOMM 1996): a turn
takes ``1 / weight`` of virtual time, and a tenant without work does not save up turns. So if `n`
tenants of equal weight wait, the first of each starts within `n` turns.

Only one worker of the deployment chooses at a time, by an advisory lock that ends with the
transaction. A worker that finds nothing waiting does not take the lock.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Double,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import LateralFromClause

from app.store import claims, inspections, leases, locks
from app.store.tables import JobRow, TurnRow
from app.store.walks import distinct

Kind = Literal["job", "upload"]
Weights = Mapping[str, float]
AnyRow = Row[*tuple[Any, ...]]

_TENANT: ColumnElement[str] = literal_column("waiting.tenant", Text)
_WEIGHTS = bindparam("weights", type_=JSONB)


def next_job(session: Session, offer: claims.WorkerOffer, weights: Weights) -> str | None:
    """Return the job whose turn it is on a worker, and count the turn for its tenant.

    No other worker chooses a job until this transaction ends, in which the job is to be claimed.
    """
    any_waits, first = _jobs(offer)
    if not session.scalar(any_waits):
        return None
    choose_alone(session, "job")
    chosen = session.execute(first, {"weights": dict(weights)}).one_or_none()
    return None if chosen is None else _count(session, "job", chosen)


@cache
def _jobs(offer: claims.WorkerOffer) -> tuple[Select[bool], Select[Any]]:
    """Select whether a job waits that a worker can run, and the first of them."""
    waits = claims.waiting() & claims.fits(offer)
    head = (
        select(JobRow.id, JobRow.created_at)
        .where(waits, JobRow.tenant == _TENANT)
        .order_by(JobRow.priority.desc(), JobRow.created_at, JobRow.id)
        .limit(1)
        .lateral("head")
    )
    running = (
        select(func.count())
        .where(JobRow.tenant == _TENANT, JobRow.status == "running", JobRow.search.is_(None))
        .scalar_subquery()
    )
    any_waits = select(select(JobRow.id).where(waits).exists())
    return any_waits, _first("job", "jobs WHERE status = 'queued'", head, running)


def next_upload(session: Session, weights: Weights) -> tuple[inspections.Kind, str] | None:
    """Return the upload to inspect next, and count the turn for its tenant; see ``next_job``."""
    if not any(session.scalar(any_waits) for any_waits, _ in _uploads().values()):
        return None
    choose_alone(session, "upload")
    heads = {
        kind: session.execute(first, {"weights": dict(weights)}).one_or_none()
        for kind, (_, first) in _uploads().items()
    }
    candidates = [(tuple(head)[:4], kind, head) for kind, head in heads.items() if head is not None]
    if not candidates:
        return None
    _, kind, head = min(candidates, key=lambda candidate: candidate[0])
    return kind, _count(session, "upload", head)


@cache
def _uploads() -> Mapping[inspections.Kind, tuple[Select[bool], Select[Any]]]:
    """Select whether an upload of each kind waits, and the first of them."""
    tables = inspections.TABLES
    held = [
        select(func.count())
        .where(table.tenant == _TENANT, table.status == "inspecting", leases.is_held(table))
        .scalar_subquery()
        for table in tables.values()
    ]
    selects = {}
    for kind, table in tables.items():
        head = (
            select(table.id, table.created_at)
            .where(inspections.waiting(table), table.tenant == _TENANT)
            .order_by(table.created_at, table.id)
            .limit(1)
            .lateral("head")
        )
        any_waits = select(select(table.id).where(inspections.waiting(table)).exists())
        rows = f"{table.__tablename__} WHERE status = 'inspecting'"
        selects[kind] = any_waits, _first("upload", rows, head, held[0] + held[1])
    return selects


def choose_alone(session: Session, kind: Kind | Literal["fetch"]) -> None:
    """Wait until no other worker chooses of this kind; none does until this transaction ends."""
    locks.take(session, f"turn:{kind}")


def _first(
    kind: Kind,
    rows: str,
    head: LateralFromClause,
    running: ColumnElement[int],
) -> Select[Any]:
    """Select the first in the order of turns, as ``share, start, created_at, id, tenant``.

    Building a statement takes longer than running it, so it is built once.

    Args:
        kind: The kind of work.
        rows: The table of waiting rows, and their condition, which has an index with the tenant.
        head: The first row of a tenant that can run now.
        running: The number of running items of a tenant.
    """
    weight = func.coalesce(cast(_WEIGHTS[_TENANT].astext, Double), 1.0)
    now = func.coalesce(
        select(func.max(TurnRow.start)).where(TurnRow.kind == kind).scalar_subquery(), 0.0
    )
    start = func.greatest(func.coalesce(TurnRow.start + 1.0 / weight, now), now)
    tenants = text(distinct("tenant", rows)).columns(column("tenant", Text)).subquery("waiting")
    joined = tenants.join(head, text("true")).outerjoin(
        TurnRow, and_(TurnRow.kind == kind, TurnRow.tenant == _TENANT)
    )
    order = [(running / weight).label("share"), start.label("start"), head.c.created_at, head.c.id]
    chosen = select(*order, _TENANT.label("tenant")).select_from(joined)
    return chosen.order_by(*order).limit(1)


def _count(session: Session, kind: Kind, chosen: AnyRow) -> str:
    """Store the virtual time at which the turn begins; return the chosen row."""
    turn = insert(TurnRow).values(kind=kind, tenant=chosen.tenant, start=chosen.start)
    session.execute(
        turn.on_conflict_do_update(
            index_elements=[TurnRow.kind, TurnRow.tenant], set_={"start": turn.excluded.start}
        )
    )
    return str(chosen.id)
