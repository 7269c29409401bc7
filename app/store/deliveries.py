"""Webhook deliveries: rows written in the transaction of what they tell about."""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.domain import ids
from app.store.tables import DeliveryRow, WebhookRow


def enqueue(session: Session, tenant: str, event: str, job_id: str, data: Any) -> None:
    """Write one pending delivery for each enabled webhook that wants ``event`` of this job.

    Args:
        session: The transaction in which the event happened.
        tenant: Whose webhooks are told.
        event: Such as ``job.succeeded``.
        job_id: The job that it is about; its one-off webhook is told too.
        data: JSON for the payload's ``data``.
    """
    hooks = session.scalars(
        select(WebhookRow).where(
            WebhookRow.tenant == tenant,
            WebhookRow.enabled,
            WebhookRow.events.contains([event]),
            or_(WebhookRow.job_id.is_(None), WebhookRow.job_id == job_id),
        )
    )
    for hook in hooks:
        session.add(delivery(hook, event, job_id, data))


def delivery(hook: WebhookRow, event: str, job_id: str | None, data: Any) -> DeliveryRow:
    """Return a fresh pending delivery; its payload is fixed now, byte for byte."""
    payload = {"type": event, "timestamp": datetime.now(UTC).isoformat(), "data": data}
    return DeliveryRow(
        id=ids.new("dlv"),
        tenant=hook.tenant,
        webhook_id=hook.id,
        job_id=job_id,
        event=event,
        message_id=ids.new("msg"),
        payload=json.dumps(payload, separators=(",", ":")),
    )
