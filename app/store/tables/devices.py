"""Devices of tenants that time files, and what they are to time."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Json, Leased, Table


class DeviceRow(Table):
    """A device on which an agent has registered. Only the hash of the agent's token is stored."""

    __tablename__ = "devices"
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str]
    token_hash: Mapped[bytes]
    formats: Mapped[list[str]]
    runtime: Mapped[str]
    machine: Mapped[str]
    threads: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When its agent last called."""


class MeasurementRow(Leased, Table):
    """An artifact that a device is to time, or has timed."""

    __tablename__ = "measurements"
    __table_args__ = (
        CheckConstraint("state in ('queued', 'running', 'measured', 'failed')", "state"),
        Index(
            "ix_measurements_waiting",
            "device_id",
            "created_at",
            "id",
            postgresql_where=text("state in ('queued', 'running')"),
        ),
    )

    tenant: Mapped[str]
    device_id: Mapped[str | None] = mapped_column(ForeignKey("devices.id", ondelete="SET NULL"))
    """None once the device was deleted, what it measured stays; and for a copy of its figures."""
    device: Mapped[str]
    """The device's name."""
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    artifact_id: Mapped[str | None] = mapped_column(
        ForeignKey("artifacts.id", ondelete="SET NULL"), index=True
    )
    format: Mapped[str]
    sha256: Mapped[str]
    state: Mapped[str] = mapped_column(default="queued")
    latency: Mapped[Json | None]
    conditions: Mapped[Json | None]
    """Runtime, machine and threads, as the device had them when it reported."""
    problem: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    finished_at: Mapped[datetime | None]
