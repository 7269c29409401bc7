"""``planish datasets``."""

from pathlib import Path
from typing import Annotated

import typer

from planish.cli.asking import AsJson, Columns, Limit, Url, asking, print_list, print_one, tell
from planish.types import Dataset

cli = typer.Typer(help="Upload, show and delete datasets.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The dataset's id: dst_…")]

_COLUMNS: Columns[Dataset] = {
    "id": lambda dataset: dataset.id,
    "name": lambda dataset: dataset.name,
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
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Upload an .npz, a .parquet or a zip of class folders, and await its inspection."""
    with asking(url) as client:
        print_one(client.datasets.upload(file, name=name), as_json=as_json)


@cli.command()
def delete(dataset: Id, url: Url = None) -> None:
    """Delete a dataset that no queued or running job uses; jobs and artifacts stay."""
    with asking(url) as client:
        client.datasets.delete(dataset)
    tell(f"{dataset} is deleted.")
