"""What the commands for models and for datasets have in common: list, get, delete."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from planish._sync.uploads import Uploads
from planish.cli.asking import AsJson, Columns, Limit, Url, asking, print_list, print_one, tell
from planish.client import Client
from planish.types import Dataset, Model

_Upload = TypeVar("_Upload", Model, Dataset)

Name = Annotated[str | None, typer.Option(help="For people.")]


def identifier(noun: str, prefix: str) -> Any:
    """Return the argument of a command that is about one upload."""
    return typer.Argument(metavar=noun, help=f"The {noun}'s id: {prefix}_…")


def commands(
    noun: str,
    argument: Any,
    uploads: Callable[[Client], Uploads[_Upload]],
    columns: Columns[_Upload],
) -> typer.Typer:
    """Return a command group that lists, shows and deletes uploads.

    Args:
        noun: what one is called.
        argument: of a command that is about one, as ``identifier`` returns it.
        uploads: the resource of a client.
        columns: of the list.
    """
    cli = typer.Typer(help=f"Upload, show and delete {noun}s.", no_args_is_help=True)

    @cli.command("list", help=f"List the {noun}s, newest first.")
    def show_all(limit: Limit = 50, url: Url = None, as_json: AsJson = False) -> None:
        with asking(url) as client:
            print_list(uploads(client).list(), columns, limit=limit, as_json=as_json)

    @cli.command(help=f"Show a {noun}: what it is, and what inspection found.")
    def get(upload: str = argument, url: Url = None, as_json: AsJson = False) -> None:
        with asking(url) as client:
            print_one(uploads(client).get(upload), as_json=as_json)

    @cli.command(help=f"Delete a {noun} that no queued or running job uses; jobs and files stay.")
    def delete(upload: str = argument, url: Url = None) -> None:
        with asking(url) as client:
            uploads(client).delete(upload)
        tell(f"{upload} is deleted.")

    return cli
