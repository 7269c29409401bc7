"""``planish datasets``."""

from typing import Annotated

import typer

from planish._requests import is_address
from planish.cli.asking import (
    AsJson,
    Columns,
    FileOrAddress,
    Limit,
    Sha256,
    Url,
    asking,
    local_file,
    print_list,
    print_one,
    tell,
)
from planish.types import Dataset

cli = typer.Typer(help="Upload, show and delete datasets.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The dataset's id: dst_…")]

_COLUMNS: Columns[Dataset] = {
    "id": lambda dataset: dataset.id,
    "name": lambda dataset: dataset.name or dataset.filename,
    "status": lambda dataset: dataset.status,
    "bytes": lambda dataset: dataset.size_bytes,
    "samples": lambda dataset: dataset.samples,
    "uploaded": lambda dataset: f"{dataset.created_at:%Y-%m-%d %H:%M}",
}


@cli.command("list")
def show_all(limit: Limit = 50, url: Url = None, as_json: AsJson = False) -> None:
    """List the datasets, newest first."""
    with asking(url) as client:
        print_list(client.datasets.list(), _COLUMNS, limit=limit, as_json=as_json)


@cli.command()
def get(dataset: Id, url: Url = None, as_json: AsJson = False) -> None:
    """Show a dataset: what it is, and what inspection found."""
    with asking(url) as client:
        print_one(client.datasets.get(dataset), as_json=as_json)


@cli.command()
def upload(
    file: FileOrAddress,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    sha256: Sha256 = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Upload an .npz, a .parquet or a zip of class folders, and await its inspection."""
    with asking(url) as client:
        if is_address(file):
            made = client.datasets.from_url(file, sha256=sha256, name=name)
        else:
            made = client.datasets.upload(local_file(file, sha256), name=name)
        print_one(made, as_json=as_json)


@cli.command()
def delete(dataset: Id, url: Url = None) -> None:
    """Delete a dataset that no queued or running job uses; jobs and artifacts stay."""
    with asking(url) as client:
        client.datasets.delete(dataset)
    tell(f"{dataset} is deleted.")
