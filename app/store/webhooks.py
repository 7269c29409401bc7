"""The webhooks of a tenant, and their deliveries."""

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from app.store import locks
from app.store.tables import DeliveryRow, WebhookRow


def find_delivery(session: Session, webhook: WebhookRow, delivery_id: str) -> DeliveryRow | None:
    """Return a delivery to ``webhook``, locked until commit."""
    return session.scalars(
        select(DeliveryRow)
        .where(DeliveryRow.id == delivery_id, DeliveryRow.webhook_id == webhook.id)
        .with_for_update()
    ).one_or_none()


def standing(tenant: str) -> Select[WebhookRow]:
    """Select the tenant's webhooks, without one-off webhooks of jobs."""
    return select(WebhookRow).where(WebhookRow.tenant == tenant, WebhookRow.job_id.is_(None))


def of_job(session: Session, tenant: str, job_id: str) -> WebhookRow | None:
    """Return the one-off webhook of a job of the tenant, if it has one."""
    return session.scalars(
        select(WebhookRow).where(WebhookRow.tenant == tenant, WebhookRow.job_id == job_id)
    ).one_or_none()


def count(session: Session, tenant: str) -> int:
    """Count the webhooks of the tenant, without those of one job alone.

    Another count waits until this commits.
    """
    locks.take(session, f"webhooks:{tenant}")
    return session.scalars(select(func.count()).select_from(standing(tenant).subquery())).one()


def sent_to(webhook: WebhookRow) -> Select[DeliveryRow]:
    """Select the deliveries to ``webhook``."""
    return select(DeliveryRow).where(DeliveryRow.webhook_id == webhook.id)
