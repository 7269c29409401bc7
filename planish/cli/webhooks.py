"""``planish webhooks``."""

from typing import Annotated

import typer

from planish.cli.asking import AsJson, Columns, Limit, Url, asking, print_list, print_one, tell
from planish.types import Delivery, Webhook

cli = typer.Typer(help="Name addresses to tell when jobs end.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The webhook's id: whk_…")]

_COLUMNS: Columns[Webhook] = {
    "id": lambda webhook: webhook.id,
    "address": lambda webhook: webhook.url,
    "events": lambda webhook: ", ".join(webhook.events),
    "state": lambda webhook: "enabled" if webhook.enabled else webhook.disabled_reason,
}
_DELIVERIES: Columns[Delivery] = {
    "id": lambda delivery: delivery.id,
    "event": lambda delivery: delivery.event,
    "job": lambda delivery: delivery.job,
    "status": lambda delivery: delivery.status,
    "attempts": lambda delivery: len(delivery.attempts),
    "next": lambda delivery: delivery.next_attempt_at,
}


@cli.command("list")
def show_all(limit: Limit = 50, url: Url = None, as_json: AsJson = False) -> None:
    """List the webhooks, newest first."""
    with asking(url) as client:
        print_list(client.webhooks.list(), _COLUMNS, limit=limit, as_json=as_json)


@cli.command()
def get(webhook: Id, url: Url = None, as_json: AsJson = False) -> None:
    """Show a webhook."""
    with asking(url) as client:
        print_one(client.webhooks.get(webhook), as_json=as_json)


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


@cli.command()
def delete(webhook: Id, url: Url = None) -> None:
    """Forget a webhook and what was sent to it."""
    with asking(url) as client:
        client.webhooks.delete(webhook)
    tell(f"{webhook} is deleted.")


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
        print_list(sent, _DELIVERIES, limit=limit, as_json=as_json)
