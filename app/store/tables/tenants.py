"""Who may call, what they have used, and how they were answered."""

from datetime import date, datetime

from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Table


class ApiKeyRow(Table):
    """An API key of a tenant. Only the hash of the key is stored."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str]
    hash: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    """When it was last used, to an hour."""


class BrowserSessionRow(Table):
    """A person who has logged in with a key. Only the hash of the cookie's token is stored."""

    __tablename__ = "browser_sessions"

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(index=True)


class UsageRow(Table):
    """The usage of a tenant on a day, in UTC. It stays when its jobs are deleted."""

    __tablename__ = "usage_days"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    cpu_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")
    gpu_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")
    jobs: Mapped[int] = mapped_column(default=0, server_default="0")
    """The number of jobs that ended."""
    stored_bytes: Mapped[int] = mapped_column(default=0, server_default="0")
    """The largest number of stored bytes, measured when an upload or a job ended."""


class IdempotencyRow(Table):
    """The answer to a POST that carried an Idempotency-Key."""

    __tablename__ = "idempotency"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[bytes]
    status: Mapped[int]
    body: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
