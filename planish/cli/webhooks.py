"""``planish webhooks``."""

from typing import Annotated

import typer

from planish.cli.asking import AsJson, Columns, Limit, Url, asking, print_list, print_one, said
from planish.cli.resources import commands, identifier
from planish.types import Delivery

_ID = identifier("webhook", "whk")
Id = Annotated[str, _ID]

_DELIVERIES: Columns[Delivery] = {
    "id": lambda delivery: delivery.id,
    "event": lambda delivery: delivery.event,
    "status": lambda delivery: delivery.status,
    "attempts": lambda delivery: len(delivery.attempts),
}

cli = commands(
    "webhook",
    _ID,
    lambda client: client.webhooks,
    {
        "id": lambda webhook: webhook.id,
        "state": lambda webhook: "enabled" if webhook.enabled else "disabled",
    },
    lambda webhook: said(
        webhook.url, f"told of {', '.join(webhook.events)}", webhook.disabled_reason
    ),
    about="Name addresses to tell when jobs end.",
    shown="Show a webhook.",
    deleted="Forget a webhook and what was sent to it.",
)


@cli.command()
def create(
    address: Annotated[str, typer.Argument(help="https://…, which is told.")],
    event: Annotated[
        list[str] | None, typer.Option(help="Such as job.failed; repeat it. Default: all.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Name an address to tell; the signing secret is shown this once."""
    with asking(url) as client:
        made = client.webhooks.create(address, events=event, description=description)
        print_one(made, as_json=as_json)


@cli.command("test")
def send_test(webhook: Id, url: Url = None, as_json: AsJson = False) -> None:
    """Send webhook.test, signed like any other message."""
    with asking(url) as client:
        print_one(client.webhooks.test(webhook), as_json=as_json)


@cli.command()
def rotate(webhook: Id, url: Url = None, as_json: AsJson = False) -> None:
    """Make a new secret, shown this once; the old one also signs for 24 hours."""
    with asking(url) as client:
        print_one(client.webhooks.rotate(webhook), as_json=as_json)


@cli.command()
def deliveries(webhook: Id, limit: Limit = 50, url: Url = None, as_json: AsJson = False) -> None:
    """List what was sent to a webhook, newest first."""
    with asking(url) as client:
        sent = client.webhooks.deliveries(webhook)
        print_list(sent, _DELIVERIES, _of_delivery, limit=limit, as_json=as_json)


def _of_delivery(delivery: Delivery) -> str:
    due = delivery.next_attempt_at
    return said(delivery.job, due is not None and f"next attempt at {due:%Y-%m-%d %H:%M:%S}")
