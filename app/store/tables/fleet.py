"""Workers, and what they keep for all: turns, chores and counters."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Json, Table


class WorkerRow(Table):
    """A worker process that has announced itself."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    hostname: Mapped[str]
    pid: Mapped[int]
    queue: Mapped[str]
    device: Mapped[str]
    labels: Mapped[list[str]] = mapped_column(default=list, server_default=text("'{}'"))
    capabilities: Mapped[Json | None]
    confinement: Mapped[Json | None]
    unable: Mapped[str | None]
    """The reason if it takes no jobs: its test job did not complete."""
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    claimed_at: Mapped[datetime | None]


class TurnRow(Table):
    """When a tenant last had a turn, in the virtual time of one kind of work."""

    __tablename__ = "turns"
    __table_args__ = (CheckConstraint("kind in ('job', 'upload')", "kind"),)

    kind: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    start: Mapped[float]


class ChoreRow(Table):
    """Periodic work that one process does for all."""

    __tablename__ = "chores"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    until: Mapped[datetime]
    """When another process may take it over, if the owner has not renewed its hold."""
    done_at: Mapped[datetime | None]


class CounterRow(Table):
    """An amount that was added to a figure; the figure is the sum of its rows."""

    __tablename__ = "counters"
    __table_args__ = (Index("ix_counters_name", "name", "label"),)

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    name: Mapped[str]
    label: Mapped[str]
    value: Mapped[float]
