"""Webhooks and deliveries, written and read without the API."""

from sqlalchemy import text

from app.domain import ids
from app.settings import Settings
from app.store import deliveries
from app.store.session import Sessions
from app.store.tables import DeliveryRow, Json, WebhookRow

SECRET = "whsec_" + "QUJD" * 8
LOOPBACK = "127.0.0.0/8,::1/128"


def configured(timeout: float = 5, networks: str = LOOPBACK, scan: float = 2) -> Settings:
    webhook = {"allowed_networks": networks, "timeout_seconds": timeout}
    settings = Settings.model_validate({"webhook": webhook})
    lease = settings.lease.model_copy(update={"scan_seconds": scan})
    return settings.model_copy(update={"lease": lease})


def hook(store: Sessions, url: str, tenant: str = "t", **columns: object) -> str:
    row = WebhookRow(
        id=ids.new("whk"),
        tenant=tenant,
        url=url,
        secret=SECRET,
        **{"events": ["job.succeeded"], **columns},
    )
    with store.begin() as session:
        session.add(row)
    return row.id


def pending(store: Sessions, webhook_id: str, data: Json | None = None) -> str:
    with store.begin() as session:
        row = deliveries.delivery(
            session.get_one(WebhookRow, webhook_id), "job.succeeded", None, data or {"n": 1}
        )
        session.add(row)
        return row.id


def read(store: Sessions, delivery_id: str) -> DeliveryRow:
    with store() as session:
        return session.get_one(DeliveryRow, delivery_id)


def read_hook(store: Sessions, webhook_id: str) -> WebhookRow:
    with store() as session:
        return session.get_one(WebhookRow, webhook_id)


def let_pass(store: Sessions) -> None:
    """The time of every retry comes, and every lease runs out."""
    with store.begin() as session:
        session.execute(text("UPDATE deliveries SET not_before = now()"))
        session.execute(
            text(
                "UPDATE deliveries SET lease_expires_at = now() - interval '1 s'"
                " WHERE lease_expires_at IS NOT NULL"
            )
        )
