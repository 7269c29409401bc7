"""Webhooks of a tenant, and what was sent to them."""

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.store.tables import DeliveryRow, WebhookRow


def find(
    session: Session, tenant: str, webhook_id: str, *, lock: bool = False
) -> WebhookRow | None:
    """Return the tenant's webhook; with ``lock``, nobody else changes it until commit."""
    query = select(WebhookRow).where(WebhookRow.id == webhook_id, WebhookRow.tenant == tenant)
    return session.scalars(query.with_for_update(key_share=True) if lock else query).one_or_none()


def find_delivery(session: Session, webhook: WebhookRow, delivery_id: str) -> DeliveryRow | None:
    """Return a delivery to ``webhook``, locked until commit."""
    return session.scalars(
        select(DeliveryRow)
        .where(DeliveryRow.id == delivery_id, DeliveryRow.webhook_id == webhook.id)
        .with_for_update()
    ).one_or_none()


def standing(tenant: str) -> Select[WebhookRow]:
    """Select the tenant's webhooks without those that were named for one job alone."""
    return select(WebhookRow).where(WebhookRow.tenant == tenant, WebhookRow.job_id.is_(None))


def sent_to(webhook: WebhookRow) -> Select[DeliveryRow]:
    """Select the deliveries to ``webhook``."""
    return select(DeliveryRow).where(DeliveryRow.webhook_id == webhook.id)
