"""``planish login``: keep a service's address and a key of it, for later commands."""

import os
from typing import Annotated

import typer

from planish import credentials
from planish.cli.asking import tell
from planish.client import Client


def login(
    url: Annotated[
        str | None, typer.Argument(help="Of the service. Default: PLANISH_URL, else this machine.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="The API key. Default: PLANISH_API_KEY, else it is asked for."),
    ] = None,
) -> None:
    """Keep a service's address and a key of it, once the service has accepted them.

    A service that needs no key is given none: leave it empty.
    """
    address = credentials.url_or_default(url)
    given = key or os.environ.get("PLANISH_API_KEY") or os.environ.get("PLANISH_KEY")
    if given is None:
        given = typer.prompt(f"API key for {address}", hide_input=True, default="", err=True)
    with Client(address, given or None) as client:
        next(client.models.list(), None)
    path = credentials.keep(address, given or None)
    tell(f"You are logged in at {address}; {path} has it.")
