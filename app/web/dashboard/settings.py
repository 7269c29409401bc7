"""``/webhooks``, ``/keys``, ``/usage``: who is told, who may call, how much was used."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from secrets import token_bytes
from typing import Any, Literal, get_args

from fastapi import APIRouter, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app import nudge
from app.domain.problems import Problem
from app.domain.webhooks import EVENTS, JOB_ENDED, Webhook, WebhookChange, WebhookRequest
from app.services import keys, usage, webhooks
from app.services.listing import Walk
from app.web import problems
from app.web.dashboard import page
from app.web.dashboard.sending import Made, Sent, secret_of
from app.web.dashboard.visitor import Form, Looking, Visitor

router = APIRouter()

_DELIVERIES = 10
_WEBHOOKS = 100

WebhookAction = Literal["test", "rotate", "delete", "enable"]


@router.get("/webhooks")
def list_webhooks(visitor: Looking) -> Response:
    """Show the webhooks with their latest deliveries."""
    return _webhooks(visitor)


@router.post("/webhooks")
def create_webhook(visitor: Looking, form: Form, once: Sent) -> Response:
    """Name an address; its secret is shown this once."""
    try:
        request = _webhook_request(form.get("url"), form.getlist("events"))
        admitted = visitor.gateway.settings.webhook.allowed_networks
        made = once(
            201, lambda session: webhooks.create(session, visitor.tenant, request, admitted)
        )
    except Problem as fault:
        given = {"url": str(form.get("url", "")), "events": form.getlist("events")}
        return _webhooks(visitor, fault=fault, given=given)
    return _webhooks(visitor, secret=Webhook.model_validate_json(bytes(made.body)).secret)


@router.post("/webhooks/{webhook_id}/{action}")
def change_webhook(
    webhook_id: str,
    action: WebhookAction,
    visitor: Looking,
    form: Form,  # noqa: ARG001 (it is checked)
) -> Response:
    """Test, renew the secret of, enable or delete a webhook."""
    with visitor.call.transaction() as session:
        done = _ACTIONS[action](session, visitor, webhook_id)
    if action == "test":
        nudge.send(visitor.gateway.settings, "delivery", done.id)
    return _webhooks(visitor, secret=done.secret if action == "rotate" else None)


@router.post("/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver")
def redeliver(webhook_id: str, delivery_id: str, visitor: Looking, form: Form) -> Response:  # noqa: ARG001
    """Send a delivery again."""
    with visitor.call.transaction() as session:
        webhooks.redeliver(session, visitor.tenant, webhook_id, delivery_id)
    nudge.send(visitor.gateway.settings, "delivery", delivery_id)
    return page.see("/webhooks")


@router.get("/keys")
def list_keys(visitor: Looking) -> Response:
    """Show the tenant's keys; of each only that it exists."""
    return _keys(visitor)


@router.post("/keys")
def create_key(visitor: Looking, form: Form, once: Sent) -> Response:
    """Make a key for the tenant, shown this once; it may do no more than the visitor's own.

    Only its hash is stored, so a form that is sent twice makes the same key again.
    """
    name = str(form.get("name", "")).strip()[:200] or "unnamed"
    wanted = [scope for scope in keys.SCOPES if scope in form.getlist("scopes")]
    scopes = tuple(scope for scope in wanted if scope in visitor.scopes)
    if not scopes:
        return _keys(visitor, name=name, fault="Choose what the key may do: read, write or both.")
    secret = secret_of(form) or token_bytes(32)

    def create(session: Session) -> Made:
        row, _ = keys.create(session, visitor.tenant, name, scopes, secret=secret)
        return Made(id=row.id)

    once(201, create)
    return _keys(visitor, made=keys.of_secret(secret))


@router.post("/keys/{key_id}/revoke")
def revoke_key(key_id: str, visitor: Looking, form: Form) -> Response:  # noqa: ARG001
    """Make a key of the tenant worthless."""
    with visitor.call.transaction() as session:
        keys.revoke(session, visitor.tenant, key_id)
    return page.see("/keys")


@router.get("/usage")
def show_usage(visitor: Looking) -> Response:
    """Show what the tenant has stored and computed."""
    with visitor.call.transaction() as session:
        stored = usage.stored(session, visitor.tenant)
        days = usage.days(session, visitor.tenant, None, datetime.now(UTC).date())
    return page.show(
        "usage.html",
        visitor,
        stored=stored,
        quota=visitor.gateway.settings.quota,
        days=list(reversed(days)),
    )


def _webhooks(
    visitor: Visitor,
    *,
    secret: str | None = None,
    fault: Problem | None = None,
    given: Mapping[str, Any] | None = None,
) -> Response:
    with visitor.call.transaction() as session:
        found = [
            (hook, webhooks.sent(session, visitor.tenant, hook.id, Walk(_DELIVERIES)).items)
            for hook in webhooks.listed(session, visitor.tenant, Walk(_WEBHOOKS)).items
        ]
    return page.show(
        "webhooks.html",
        visitor,
        status=422 if fault else 200,
        found=found,
        secret=secret,
        events=list(EVENTS),
        fault=fault,
        given=given or {"url": "", "events": JOB_ENDED},
    )


def _webhook_request(url: object, events: list[Any]) -> WebhookRequest:
    body = {"url": str(url or ""), "events": [str(event) for event in events]}
    try:
        return WebhookRequest.model_validate(body, strict=False)
    except ValidationError as error:
        raise problems.unfit(error, body) from None


def _keys(
    visitor: Visitor, made: str | None = None, name: str = "", fault: str | None = None
) -> Response:
    with visitor.call.transaction() as session:
        rows = keys.listed(session, visitor.tenant)
    status = 422 if fault else 200
    return page.show(
        "keys.html", visitor, status=status, keys=rows, made=made, name=name, fault=fault
    )


def _enable(session: Any, visitor: Visitor, webhook_id: str) -> Any:
    networks = visitor.gateway.settings.webhook.allowed_networks
    request = WebhookChange(enabled=True)
    return webhooks.change(session, visitor.tenant, webhook_id, request, networks)


_ACTIONS: dict[str, Callable[[Any, Visitor, str], Any]] = {
    "test": lambda session, visitor, name: webhooks.send_test(session, visitor.tenant, name),
    "rotate": lambda session, visitor, name: webhooks.rotate(session, visitor.tenant, name),
    "delete": lambda session, visitor, name: webhooks.delete(session, visitor.tenant, name),
    "enable": _enable,
}
assert set(_ACTIONS) == set(get_args(WebhookAction))
