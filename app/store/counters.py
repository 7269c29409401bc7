"""Figures that are kept as they change, instead of summed over all rows whenever they are read.

A figure has a name and a label, and is the sum of its rows. Rows are only added, so that no writer
waits for another; ``compact`` merges them now and then. Triggers of the database count
``STORED_BYTES`` by tenant and ``FINISHED_JOBS`` by status, so that no delete is forgotten.
"""

from collections.abc import Mapping

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from app.store.tables import CounterRow

STORED_BYTES = "stored_bytes"
FINISHED_JOBS = "finished_jobs"
STEPS = "steps"
STEP_SECONDS = "step_seconds"
CLAIMS = "claims"
LOST_LEASES = "lost_leases"
ENGINE_DEATHS = "engine_deaths"
STAGE_SECONDS = "stage_seconds"
DEVICE_SECONDS = "device_seconds"


def add(session: Session, name: str, amounts: Mapping[str, float]) -> None:
    """Add to the figures of one name, by label."""
    rows = [{"name": name, "label": label, "value": value} for label, value in amounts.items()]
    if rows:
        session.execute(insert(CounterRow), rows)


def total(session: Session, name: str, label: str) -> float:
    """Return one figure; 0 where nothing was counted."""
    query = select(func.coalesce(func.sum(CounterRow.value), 0.0))
    found = session.scalar(query.where(CounterRow.name == name, CounterRow.label == label))
    return float(found or 0.0)


def total_of_all(session: Session, name: str) -> float:
    """Return the sum of the figures of one name."""
    query = select(func.coalesce(func.sum(CounterRow.value), 0.0)).where(CounterRow.name == name)
    return float(session.scalar(query) or 0.0)


def totals(session: Session, name: str) -> dict[str, float]:
    """Return the figures of one name, by label."""
    query = select(CounterRow.label, func.sum(CounterRow.value)).where(CounterRow.name == name)
    return dict(session.execute(query.group_by(CounterRow.label)).all())


def compact(session: Session) -> None:
    """Merge the rows of each figure into one; figures do not change, and nobody waits."""
    merged = delete(CounterRow).returning(CounterRow.name, CounterRow.label, CounterRow.value)
    rows = merged.cte("merged")
    figures = select(rows.c.name, rows.c.label, func.sum(rows.c.value)).group_by(
        rows.c.name, rows.c.label
    )
    kept = figures.having(func.sum(rows.c.value) != 0)
    session.execute(insert(CounterRow).from_select(["name", "label", "value"], kept))
