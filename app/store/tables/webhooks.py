"""Webhooks, and the messages to them."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Json, Leased, Table, Traced

_PENDING = text("status = 'pending'")
_HELD = text("status = 'pending' AND lease_expires_at IS NOT NULL")


class WebhookRow(Table):
    """A webhook; with a ``job_id`` it is the one-off webhook of that job."""

    __tablename__ = "webhooks"
    __table_args__ = (
        Index("ix_webhooks_list", "tenant", text("created_at DESC"), text("id DESC")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    job_id: Mapped[str | None] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), index=True
    )
    url: Mapped[str]
    events: Mapped[list[str]]
    description: Mapped[str | None]
    enabled: Mapped[bool] = mapped_column(default=True)
    disabled_reason: Mapped[str | None]
    secret: Mapped[str]
    previous_secret: Mapped[str | None]
    previous_secret_expires_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DeliveryRow(Leased, Traced, Table):
    """One message to one webhook, written in the transaction of its event."""

    __tablename__ = "deliveries"
    __table_args__ = (
        CheckConstraint("status in ('pending', 'delivered', 'failed')", "status"),
        Index("ix_deliveries_list", "webhook_id", text("created_at DESC"), text("id DESC")),
        Index("ix_deliveries_settled", "created_at", postgresql_where=text("status <> 'pending'")),
        # The index "due" is for the version before this one.
        Index("ix_deliveries_due", "not_before", postgresql_where=_PENDING),
        Index("ix_deliveries_oldest", "tenant", "not_before", postgresql_where=_PENDING),
        Index(
            "ix_deliveries_turn", "tenant", "webhook_id", "not_before", postgresql_where=_PENDING
        ),
        Index("ix_deliveries_held", "tenant", "webhook_id", postgresql_where=_HELD),
    )

    tenant: Mapped[str]
    webhook_id: Mapped[str] = mapped_column(
        ForeignKey("webhooks.id", ondelete="CASCADE"), index=True
    )
    job_id: Mapped[str | None]
    event: Mapped[str]
    message_id: Mapped[str]
    """``webhook-id``: the same on every retry and redelivery."""
    payload: Mapped[str]
    """The exact body that is signed."""
    status: Mapped[str] = mapped_column(default="pending")
    log: Mapped[list[Json]] = mapped_column(default=list)
    """Attempts: ``{at, response_status, duration_ms, error?}``."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
