"""What the commands for models, datasets, devices and webhooks share: list, get, delete."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import typer
from pydantic import BaseModel

from planish.cli.asking import AsJson, Columns, Limit, Url, asking, print_list, print_one, tell
from planish.client import Client

_Item = TypeVar("_Item", bound=BaseModel)
_Listed_co = TypeVar("_Listed_co", bound=BaseModel, covariant=True)


class Resource(Protocol[_Listed_co]):
    """A resource of the client, such as ``client.models``."""

    def list(self) -> Iterator[_Listed_co]:
        """Yield all of them, newest first."""

    def get(self, item: str, /) -> _Listed_co:
        """Return one by its id."""

    def delete(self, item: str, /) -> None:
        """Delete one by its id."""


def identifier(noun: str, prefix: str) -> Any:
    """Return the argument that takes an item's id, for commands such as ``get`` and ``delete``.

    Args:
        noun: what an item is called.
        prefix: what its ids begin with, such as ``mdl``.
    """
    return typer.Argument(metavar=noun, help=f"The {noun}'s id: {prefix}_…")


def commands(
    noun: str,
    argument: Any,
    resource: Callable[[Client], Resource[_Item]],
    columns: Columns[_Item],
    words: Callable[[_Item], str],
    *,
    about: str,
    shown: str,
    deleted: str,
) -> typer.Typer:
    """Return a command group that lists, shows and deletes.

    Args:
        noun: what one item is called.
        argument: the one that takes an item's id, as ``identifier`` returns it.
        resource: of a client.
        columns: of the list: short figures.
        words: what the list says of an item below its figures.
        about: the help of the group.
        shown: the help of ``get``.
        deleted: the help of ``delete``.
    """
    cli = typer.Typer(help=about, no_args_is_help=True)

    @cli.command("list", help=f"List the {noun}s, newest first.")
    def show_all(limit: Limit = 50, url: Url = None, as_json: AsJson = False) -> None:
        with asking(url) as client:
            print_list(resource(client).list(), columns, words, limit=limit, as_json=as_json)

    @cli.command(help=shown)
    def get(item: str = argument, url: Url = None, as_json: AsJson = False) -> None:
        with asking(url) as client:
            print_one(resource(client).get(item), as_json=as_json)

    @cli.command(help=deleted)
    def delete(item: str = argument, url: Url = None) -> None:
        with asking(url) as client:
            resource(client).delete(item)
        tell(f"{item} is deleted.")

    return cli
