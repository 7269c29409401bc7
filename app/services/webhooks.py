"""Webhooks: create, change, delete and test one; send a delivery again.

Functions work in the caller's transaction. Where one returns a delivery, a nudge after commit
sends it at once; without the nudge a worker finds it within seconds.
"""

import base64
import secrets
from collections.abc import Iterable
from datetime import timedelta

from pydantic import HttpUrl
from sqlalchemy import func
from sqlalchemy.orm import Session

from app.domain import ids
from app.domain.addresses import Network, admission, permitted, spelled_out
from app.domain.problems import Conflict, FieldError, Invalid, NotFound
from app.domain.request_parts import OneOffWebhook
from app.domain.webhooks import (
    JOB_ENDED,
    SECRET_PREFIX,
    TEST_EVENT,
    Delivery,
    Webhook,
    WebhookChange,
    WebhookRequest,
)
from app.services.listing import Part, Walk, part
from app.store import deliveries, lookup, webhooks
from app.store.tables import DeliveryRow, WebhookRow

MAX_WEBHOOKS = 100
"""The most webhooks of a tenant; each end of a job is sent to all of them."""

SECRET_BYTES = 32

ROTATION = timedelta(hours=24)
"""The time for which the previous secret also signs."""


def create(
    session: Session, tenant: str, request: WebhookRequest, admitted: Iterable[Network]
) -> Webhook:
    """Register an address; its secret is shown to the caller this once.

    Raises:
        Invalid: The URL spells out a private address that is not admitted.
        Conflict: The tenant has reached its number of webhooks.
    """
    check_address(request.url, admitted, "#/url")
    if webhooks.count(session, tenant) >= MAX_WEBHOOKS:
        raise Conflict(f"You have {MAX_WEBHOOKS} webhooks, which is the limit: delete one.")
    row = WebhookRow(
        id=ids.new("whk"),
        tenant=tenant,
        url=str(request.url),
        events=list(dict.fromkeys(request.events)),
        description=request.description,
        secret=_new_secret(),
    )
    session.add(row)
    session.flush()
    return view(row, with_secret=True)


def one_off(
    session: Session,
    tenant: str,
    job_id: str,
    webhook: OneOffWebhook,
) -> tuple[WebhookRow, str | None]:
    """Add the one-off webhook of a job's request; it is deleted with the job.

    Returns:
        The row, and the secret if it was generated here and has to be shown.
    """
    secret = webhook.secret.get_secret_value() if webhook.secret else _new_secret()
    row = WebhookRow(
        id=ids.new("whk"),
        tenant=tenant,
        job_id=job_id,
        url=str(webhook.url),
        events=list(JOB_ENDED),
        secret=secret,
    )
    session.add(row)
    return row, None if webhook.secret else secret


def find(
    session: Session, tenant: str, webhook_id: str, lock: lookup.Lock | None = None
) -> WebhookRow:
    """Return a webhook of the tenant, or raise NotFound."""
    row = lookup.find(session, WebhookRow, tenant, webhook_id, lock)
    if row is None:
        raise NotFound(f"There is no webhook {webhook_id!r}.")
    return row


def change(
    session: Session,
    tenant: str,
    webhook_id: str,
    request: WebhookChange,
    admitted: Iterable[Network],
) -> Webhook:
    """Change the fields in the request. A new address, or enabling, clears earlier failures.

    Raises:
        NotFound: It is not the tenant's.
        Invalid: The URL spells out a private address that is not admitted.
    """
    row = find(session, tenant, webhook_id, "change")
    if request.url is not None:
        check_address(request.url, admitted, "#/url")
        row.url = str(request.url)
        row.failing_since = None
    if request.events is not None:
        row.events = list(dict.fromkeys(request.events))
    if "description" in request.model_fields_set:
        row.description = request.description
    if request.enabled is not None:
        row.enabled = request.enabled
        row.disabled_reason = None if request.enabled else "disabled on request"
        row.failing_since = None
    return view(row)


def listed(session: Session, tenant: str, walk: Walk) -> Part[Webhook]:
    """Return a part of the tenant's webhooks, without those of one job alone."""
    query = webhooks.standing(tenant)
    return part(session, walk, query, WebhookRow, lambda rows: [*map(view, rows)])


def of_job(session: Session, tenant: str, job_id: str) -> Webhook | None:
    """Return the one-off webhook of a job of the tenant; None where it has none."""
    row = webhooks.of_job(session, tenant, job_id)
    return None if row is None else view(row)


def sent(session: Session, tenant: str, webhook_id: str, walk: Walk) -> Part[Delivery]:
    """Return a part of what was sent to a webhook, or raise NotFound."""
    query = webhooks.sent_to(find(session, tenant, webhook_id))
    return part(session, walk, query, DeliveryRow, lambda rows: [*map(delivery_view, rows)])


def delete(session: Session, tenant: str, webhook_id: str) -> None:
    """Delete a webhook, its pending deliveries and its history."""
    session.delete(find(session, tenant, webhook_id, "change"))


def rotate(session: Session, tenant: str, webhook_id: str) -> Webhook:
    """Give a webhook a new secret; the previous one also signs for 24 hours."""
    row = find(session, tenant, webhook_id, "change")
    row.previous_secret = row.secret
    row.previous_secret_expires_at = func.now() + ROTATION
    row.secret = _new_secret()
    return view(row, with_secret=True)


def send_test(session: Session, tenant: str, webhook_id: str) -> Delivery:
    """Write a ``webhook.test`` delivery.

    Raises:
        NotFound: It is not the tenant's.
        Conflict: It is disabled.
    """
    hook = _enabled(find(session, tenant, webhook_id, "keep"))
    row = deliveries.delivery(hook, TEST_EVENT, None, {"webhook": hook.id})
    session.add(row)
    session.flush()
    return delivery_view(row)


def redeliver(session: Session, tenant: str, webhook_id: str, delivery_id: str) -> Delivery:
    """Make a delivery due again, whatever its outcome, with the same ``webhook-id``.

    Raises:
        NotFound: The webhook is not the tenant's, or the delivery not the webhook's.
        Conflict: The webhook is disabled.
    """
    hook = find(session, tenant, webhook_id)
    row = webhooks.find_delivery(session, hook, delivery_id)
    if row is None:
        raise NotFound(f"There is no delivery {delivery_id!r} to webhook {webhook_id!r}.")
    _enabled(hook)
    deliveries.again(row)
    session.flush()
    return delivery_view(row)


def view(row: WebhookRow, *, with_secret: bool = False) -> Webhook:
    """Return a webhook as clients see it."""
    return Webhook.model_validate(
        {
            "id": row.id,
            "url": row.url,
            "events": row.events,
            "description": row.description,
            "enabled": row.enabled,
            "disabled_reason": row.disabled_reason,
            "secret": row.secret if with_secret else None,
            "created_at": row.created_at,
        }
    )


def delivery_view(row: DeliveryRow) -> Delivery:
    """Return a delivery as clients see it."""
    return Delivery.model_validate(
        {
            "id": row.id,
            "event": row.event,
            "job": row.job_id,
            "status": row.status,
            "attempts": row.log,
            "next_attempt_at": row.not_before if row.status == "pending" else None,
        }
    )


def check_address(url: HttpUrl, admitted: Iterable[Network], pointer: str) -> None:
    """Refuse a URL whose host is a private IP address.

    Raises:
        Invalid: The address is private; the message says what to do instead.
    """
    fault = refusal(url, admitted)
    if fault is not None:
        raise Invalid(fault, errors=[FieldError(pointer=pointer, detail=fault)])


def refusal(url: HttpUrl, admitted: Iterable[Network]) -> str | None:
    """Return why an address is refused, and what to do instead; None where it is not.

    Host names are checked when they are called.
    """
    addresses = spelled_out(url.host or "")
    networks = tuple(admitted)
    if not addresses or any(permitted(address, networks) for address in addresses):
        return None
    return (
        f"{url.host} is not a public address: use one that is."
        f" {admission('WEBHOOK_ALLOWED_NETWORKS', addresses)}"
    )


def _enabled(row: WebhookRow) -> WebhookRow:
    if not row.enabled:
        raise Conflict(
            f"The webhook is disabled ({row.disabled_reason}). Enable it first: PATCH it with"
            ' {"enabled": true}.'
        )
    return row


def _new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
