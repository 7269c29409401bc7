"""``/v1/webhooks``: whom to tell, and what they were told."""

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from app.domain.problems import Conflict, Invalid, NotFound, RequestInFlight
from app.domain.webhooks import Delivery, Webhook, WebhookChange, WebhookRequest
from app.services import webhooks
from app.web.idempotency import Posted
from app.web.pagination import Page, Walked, page
from app.web.problems import documented
from app.web.security import Caller

router = APIRouter(prefix="/webhooks", tags=["webhooks"])


@router.post(
    "", status_code=201, response_model=Webhook, responses=documented(Invalid, RequestInFlight)
)
def create_webhook(body: WebhookRequest, call: Caller, once: Posted) -> Response:
    """Name an address to tell when jobs end; the signing secret is shown this once."""
    admitted = call.gateway.settings.webhook.allowed_networks
    return once(201, lambda session: webhooks.create(session, call.tenant, body, admitted))


@router.get("")
def list_webhooks(call: Caller, walk: Walked) -> Page[Webhook]:
    """List the webhooks, newest first; those named for one job alone are not among them."""
    with call.transaction() as session:
        return page(webhooks.listed(session, call.tenant, walk))


@router.get("/{webhook_id}", responses=documented(NotFound))
def get_webhook(webhook_id: str, call: Caller) -> Webhook:
    """Show a webhook."""
    with call.transaction() as session:
        return webhooks.view(webhooks.find(session, call.tenant, webhook_id))


@router.patch("/{webhook_id}", responses=documented(NotFound, Invalid))
def change_webhook(webhook_id: str, body: WebhookChange, call: Caller) -> Webhook:
    """Change what is given; enabling a disabled webhook clears the reason."""
    admitted = call.gateway.settings.webhook.allowed_networks
    with call.transaction() as session:
        return webhooks.change(session, call.tenant, webhook_id, body, admitted)


@router.delete("/{webhook_id}", status_code=204, responses=documented(NotFound))
def delete_webhook(webhook_id: str, call: Caller) -> None:
    """Forget a webhook and what was sent to it."""
    with call.transaction() as session:
        webhooks.delete(session, call.tenant, webhook_id)


@router.post(
    "/{webhook_id}/rotate",
    response_model=Webhook,
    responses=documented(NotFound, RequestInFlight),
)
def rotate_secret(webhook_id: str, call: Caller, once: Posted) -> Response:
    """Make a new secret, shown this once; the old one also signs for 24 hours."""
    return once(200, lambda session: webhooks.rotate(session, call.tenant, webhook_id))


@router.post(
    "/{webhook_id}/test",
    status_code=202,
    response_model=Delivery,
    responses=documented(NotFound, Conflict, RequestInFlight),
)
def send_test(webhook_id: str, call: Caller, once: Posted) -> Response:
    """Send `webhook.test`, signed like any other message."""

    def work(session: Session) -> Delivery:
        return webhooks.send_test(session, call.tenant, webhook_id)

    return once(202, work, tell="delivery")


@router.get("/{webhook_id}/deliveries", responses=documented(NotFound))
def list_deliveries(webhook_id: str, call: Caller, walk: Walked) -> Page[Delivery]:
    """List what was sent to a webhook, newest first, with every attempt."""
    with call.transaction() as session:
        return page(webhooks.sent(session, call.tenant, webhook_id, walk))


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    response_model=Delivery,
    responses=documented(NotFound, Conflict, RequestInFlight),
)
def redeliver(webhook_id: str, delivery_id: str, call: Caller, once: Posted) -> Response:
    """Send a message again, under the same `webhook-id`."""

    def work(session: Session) -> Delivery:
        return webhooks.redeliver(session, call.tenant, webhook_id, delivery_id)

    return once(202, work, tell="delivery")
