"""What commands that ask a service have in common: which one, and how the answer is shown."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

import typer
from pydantic import BaseModel

from planish._requests import is_address
from planish.cli.consoles import console
from planish.cli.listing import print_fields, print_rows
from planish.cli.options import service_url
from planish.client import Client
from planish.credentials import url_or_default
from planish.types import Dataset, Model

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        callback=service_url,
        help="Of the service. Default: PLANISH_URL, else the last login's.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output; messages go to the other.")
]
Name = Annotated[str | None, typer.Option(help="For people.")]
Limit = Annotated[int, typer.Option(min=1, help="How many to show.")]

FileOrAddress = Annotated[
    str, typer.Argument(help="A file; or https://… or s3://…, from where the service fetches it.")
]
Sha256 = Annotated[
    str | None, typer.Option("--sha256", help="What the file at an address must have.")
]

_LONGEST_VALUE = 600
"""Characters of a value's JSON that a person reads."""

_Shown = TypeVar("_Shown", bound=BaseModel)
Columns = Mapping[str, Callable[[_Shown], object]]
"""Headings, and what stands below them."""


@contextlib.contextmanager
def asking(url: str | None) -> Iterator[Client]:
    """Hand out a client of the service."""
    with Client(url_or_default(url), on_outage=tell) as client:
        yield client


def local_file(name: str, sha256: str | None) -> Path:
    """Return the path of a file that is here, or say what is wrong with the arguments."""
    if sha256 is not None:
        raise typer.BadParameter("--sha256 is for a file at an address.")
    if not Path(name).is_file():
        raise typer.BadParameter(f"There is no file {name!r}.")
    return Path(name)


class Uploads(Protocol):
    """``client.models`` or ``client.datasets``."""

    def upload(self, file: str, /) -> Model | Dataset:
        """Upload a file, or have the service fetch an address."""


def id_or_uploaded(named: str, prefix: str, uploads: Uploads) -> str:
    """Return an id as it is; upload a file or an address that is named in its place.

    Args:
        named: what was typed.
        prefix: what ids begin with, such as ``mdl``.
        uploads: where a file is uploaded to.
    """
    if named.startswith(f"{prefix}_") and not Path(named).exists():
        return named
    if not is_address(named) and not Path(named).is_file():
        raise typer.BadParameter(f"There is no file {named!r}, and an id begins with {prefix}_.")
    made = uploads.upload(named).id
    tell(f"{named} is uploaded as {made}.")
    return made


def said(*parts: str | Literal[False] | None) -> str:
    """Join what is known of an item."""
    return ", ".join(part for part in parts if part)


def tell(message: str) -> None:
    """Say something to whoever watches, on standard error."""
    console(stderr=True).print(message)


def print_json(value: object) -> None:
    """Print a value as JSON on standard output."""
    print(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def print_list(
    items: Iterable[_Shown],
    columns: Columns[_Shown],
    words: Callable[[_Shown], str] = lambda _item: "",
    *,
    limit: int,
    as_json: bool,
) -> None:
    """Print the first ``limit`` items for people, or as JSON.

    Args:
        items: what is listed.
        columns: short figures of each, by their headings.
        words: what is said of an item below its figures.
        limit: how many items are shown.
        as_json: whether a program reads.
    """
    shown = [*islice(items, limit)]
    if as_json:
        print_json(shown)
        return
    print_rows([*columns], [([of(item) for of in columns.values()], words(item)) for item in shown])


def print_one(item: BaseModel, *, as_json: bool) -> None:
    """Print what is known of one resource, a field a line, or all of it as JSON."""
    if as_json:
        print_json(item)
        return
    known = {
        name: value
        for name, value in item.model_dump(mode="json").items()
        if _given(value) not in (None, "", [], {})
    }
    print_fields({name: _short(value) for name, value in known.items()})


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def _short(value: object) -> str:
    """Return a value in a few lines: what is longer is for programs."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return "\n".join(value)
    text = json.dumps(_given(value), ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else "… (see --json)"


def _given(value: object) -> object:
    """Leave out what is null."""
    if isinstance(value, dict):
        return {name: _given(each) for name, each in value.items() if each is not None}
    return [_given(each) for each in value] if isinstance(value, list) else value
