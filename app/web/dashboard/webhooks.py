"""``/webhooks``: who is told, and what each was told."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.domain.problems import FieldError, Invalid, Problem
from app.domain.webhooks import EVENTS, JOB_ENDED, Delivery, Webhook, WebhookChange, WebhookRequest
from app.services import webhooks
from app.services.listing import Walk
from app.web import problems
from app.web.dashboard import page
from app.web.dashboard.back import Back, on_this_site
from app.web.dashboard.lists import Cursor, walk
from app.web.dashboard.sending import Sent, change
from app.web.dashboard.visitor import Form, Looking, Visitor
from app.web.pagination import Page
from app.web.pagination import page as paged

router = APIRouter()

_WEBHOOKS = 100
_DELIVERIES = 10


@router.get("/webhooks")
def list_webhooks(visitor: Looking) -> Response:
    """Show the webhooks with their latest deliveries."""
    return _shown(visitor)


@router.post("/webhooks")
def create_webhook(visitor: Looking, form: Form, once: Sent) -> Response:
    """Name an address; its secret is shown this once."""
    try:
        request = _request(form.get("url"), form.getlist("events"))
        admitted = visitor.gateway.settings.webhook.allowed_networks
        made = once(
            201, lambda session: webhooks.create(session, visitor.tenant, request, admitted)
        )
    except Problem as fault:
        given = {"url": str(form.get("url", "")), "events": form.getlist("events")}
        return _shown(visitor, fault=fault, given=given)
    return _shown(visitor, secret=_secret(made))


@router.get("/webhooks/{webhook_id}")
def show_webhook(
    webhook_id: str, visitor: Looking, cursor: Cursor = None, back: Back = ""
) -> Response:
    """Show one webhook with a part of what was sent to it.

    A page that shows the same looks here for what is new, and forms lead back to it.
    """
    with visitor.call.transaction() as session:
        hook = webhooks.view(webhooks.find(session, visitor.tenant, webhook_id))
        sent = sent_to(session, visitor, webhook_id, cursor)
    alone = f"/webhooks/{hook.id}" + (f"?cursor={quote(cursor)}" if cursor else "")
    return page.show(
        "webhook.html", visitor, hook=hook, sent=sent, cursor=cursor, back=on_this_site(back, alone)
    )


@router.post("/webhooks/{webhook_id}/test")
def send_test(webhook_id: str, visitor: Looking, once: Sent, back: Back = "/webhooks") -> Response:
    """Send a message that says nothing but that messages arrive."""
    once(
        202,
        lambda session: webhooks.send_test(session, visitor.tenant, webhook_id),
        tell="delivery",
    )
    return page.see(on_this_site(back))


@router.post("/webhooks/{webhook_id}/rotate")
def rotate_secret(webhook_id: str, visitor: Looking, once: Sent) -> Response:
    """Give a webhook a new secret, which is shown this once."""
    made = once(200, lambda session: webhooks.rotate(session, visitor.tenant, webhook_id))
    return _shown(visitor, secret=_secret(made))


@router.post("/webhooks/{webhook_id}/enable")
def enable_webhook(
    webhook_id: str, visitor: Looking, once: Sent, back: Back = "/webhooks"
) -> Response:
    """Call a webhook again that was disabled."""
    networks = visitor.gateway.settings.webhook.allowed_networks

    def enable(session: Session, tenant: str, name: str) -> None:
        webhooks.change(session, tenant, name, WebhookChange(enabled=True), networks)

    change(once, enable, webhook_id)
    return page.see(on_this_site(back))


@router.post("/webhooks/{webhook_id}/delete")
def delete_webhook(webhook_id: str, once: Sent) -> Response:
    """Forget a webhook with what was sent to it."""
    change(once, webhooks.delete, webhook_id)
    return page.see("/webhooks")


@router.post("/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver")
def redeliver(
    webhook_id: str, delivery_id: str, visitor: Looking, once: Sent, back: Back = "/webhooks"
) -> Response:
    """Send a delivery again, and go back to where it is listed."""
    once(
        202,
        lambda session: webhooks.redeliver(session, visitor.tenant, webhook_id, delivery_id),
        tell="delivery",
    )
    return page.see(on_this_site(back))


def _shown(
    visitor: Visitor,
    *,
    secret: str | None = None,
    fault: Problem | None = None,
    given: Mapping[str, Any] | None = None,
) -> Response:
    with visitor.call.transaction() as session:
        listed = webhooks.listed(session, visitor.tenant, Walk(_WEBHOOKS)).items
        found = [(hook, sent_to(session, visitor, hook.id)) for hook in listed]
    return page.show(
        "webhooks.html",
        visitor,
        status=422 if fault else 200,
        found=found,
        secret=secret,
        events=list(EVENTS),
        fault=fault,
        faults=page.faults(fault) if fault else {},
        given=given or {"url": "", "events": JOB_ENDED},
    )


def sent_to(
    session: Session, visitor: Visitor, webhook_id: str, cursor: str | None = None
) -> Page[Delivery]:
    """Return a part of what was sent to a webhook, newest first."""
    return paged(webhooks.sent(session, visitor.tenant, webhook_id, walk(cursor, _DELIVERIES)))


def _request(url: object, events: list[Any]) -> WebhookRequest:
    body = {"url": str(url or ""), "events": [str(event) for event in events]}
    if not events:
        reason = "Choose at least one event."
        raise Invalid(reason, errors=[FieldError(pointer="#/events", detail=reason)])
    try:
        return WebhookRequest.model_validate(body, strict=False)
    except ValidationError as error:
        raise problems.unfit(error, body) from None


def _secret(made: Response) -> str | None:
    return Webhook.model_validate_json(bytes(made.body)).secret
