"""``planish login``: keep a service's address and a key of it, for later commands."""

import contextlib
import os
from typing import Annotated

import typer

from planish import credentials
from planish._sync.http import Transport
from planish.cli.asking import tell
from planish.cli.options import service_url
from planish.errors import Unauthenticated


def login(
    url: Annotated[
        str | None,
        typer.Argument(
            callback=service_url, help="Of the service. Default: PLANISH_URL, else this machine."
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="The API key. Default: PLANISH_API_KEY, else it is asked for."),
    ] = None,
) -> None:
    """Keep a service's address and a key of it, once the service has accepted them.

    A service that needs no key is not given one.
    """
    address = credentials.url_or_default(url)
    given = key or os.environ.get("PLANISH_API_KEY") or os.environ.get("PLANISH_KEY")
    try:
        _ask(address, key=None)
    except Unauthenticated:
        given = given or typer.prompt(f"API key for {address}", hide_input=True, err=True)
        _ask(address, given)
        tell(f"You are logged in at {address}; {credentials.keep(address, given)} has it.")
        return
    path = credentials.keep(address, None)
    unread = "It did not look at yours, which is not kept. " if given else ""
    tell(f"{address} needs no API key. {unread}Later commands go there: {path} has the address.")


def _ask(address: str, key: str | None) -> None:
    """Ask for a list, with this key alone: no other one that is kept or set is sent."""
    service = Transport(address, key, timeout_s=30, attempts=6, on_outage=tell)
    with contextlib.closing(service):
        service.request("GET", "/v1/models", params={"limit": "1"})
