"""``planish models``."""

from pathlib import Path
from typing import Annotated, Literal

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
from planish.types import Model

cli = typer.Typer(help="Upload, show and delete models.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The model's id: mdl_…")]

_COLUMNS: Columns[Model] = {
    "id": lambda model: model.id,
    "name": lambda model: model.name or model.filename,
    "status": lambda model: model.status,
    "bytes": lambda model: model.size_bytes,
    "parameters": lambda model: model.parameters,
    "uploaded": lambda model: f"{model.created_at:%Y-%m-%d %H:%M}",
}


@cli.command("list")
def show_all(limit: Limit = 50, url: Url = None, as_json: AsJson = False) -> None:
    """List the models, newest first."""
    with asking(url) as client:
        print_list(client.models.list(), _COLUMNS, limit=limit, as_json=as_json)


@cli.command()
def get(model: Id, url: Url = None, as_json: AsJson = False) -> None:
    """Show a model: what it is, and what inspection found."""
    with asking(url) as client:
        print_one(client.models.get(model), as_json=as_json)


@cli.command()
def upload(
    file: FileOrAddress,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    sha256: Sha256 = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Upload an .onnx file, or a zip or tar of one with external data, and await its inspection."""
    with asking(url) as client:
        if is_address(file):
            made = client.models.from_url(file, sha256=sha256, name=name)
        else:
            made = client.models.upload(local_file(file, sha256), name=name)
        print_one(made, as_json=as_json)


@cli.command()
def download(
    model: Id,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to.")],
    form: Annotated[
        Literal["upload", "onnx"], typer.Option(help="As uploaded, or the self-contained graph.")
    ] = "upload",
    url: Url = None,
) -> None:
    """Download a model's bytes."""
    with asking(url) as client:
        tell(f"{client.models.download(model, output, form=form)} is there.")


@cli.command()
def delete(model: Id, url: Url = None) -> None:
    """Delete a model that no queued or running job uses; jobs and artifacts stay."""
    with asking(url) as client:
        client.models.delete(model)
    tell(f"{model} is deleted.")
