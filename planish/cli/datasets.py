"""``planish datasets``."""

from typing import Annotated

import typer

from planish._requests import is_address
from planish.cli.asking import (
    AsJson,
    FileOrAddress,
    Name,
    Sha256,
    Url,
    asking,
    local_file,
    print_one,
    said,
)
from planish.cli.resources import commands, identifier

cli = commands(
    "dataset",
    identifier("dataset", "dst"),
    lambda client: client.datasets,
    {
        "id": lambda dataset: dataset.id,
        "status": lambda dataset: dataset.status,
        "bytes": lambda dataset: dataset.size_bytes,
        "uploaded": lambda dataset: f"{dataset.created_at:%Y-%m-%d %H:%M}",
    },
    lambda dataset: said(
        dataset.name or dataset.filename,
        dataset.samples is not None and f"{dataset.samples:,} samples",
        dataset.problem and dataset.problem.detail,
    ),
    about="Upload, show and delete datasets.",
    shown="Show a dataset: what it is, and what inspection found.",
    deleted="Delete a dataset that no queued or running job uses; jobs and files stay.",
)


@cli.command()
def upload(
    file: FileOrAddress,
    name: Name = None,
    mean: Annotated[
        list[float] | None,
        typer.Option(help="Of images, subtracted after scaling to 0-1; once for each channel."),
    ] = None,
    std: Annotated[
        list[float] | None, typer.Option(help="Of images, divided by; once for each channel.")
    ] = None,
    sha256: Sha256 = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Upload an .npz, a .parquet or a zip of class folders, and await its inspection."""
    with asking(url) as client:
        if is_address(file):
            made = client.datasets.from_url(file, sha256=sha256, name=name, mean=mean, std=std)
        else:
            path = local_file(file, sha256)
            made = client.datasets.upload(path, name=name, mean=mean, std=std)
        print_one(made, as_json=as_json)
