"""``planish models``."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

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
    tell,
)
from planish.cli.options import place
from planish.cli.resources import commands, identifier

_ID = identifier("model", "mdl")
Id = Annotated[str, _ID]

cli = commands(
    "model",
    _ID,
    lambda client: client.models,
    {
        "id": lambda model: model.id,
        "status": lambda model: model.status,
        "bytes": lambda model: model.size_bytes,
        "uploaded": lambda model: f"{model.created_at:%Y-%m-%d %H:%M}",
    },
    lambda model: said(
        model.name or model.filename,
        model.parameters is not None and f"{model.parameters:,} parameters",
        model.problem and model.problem.detail,
    ),
    about="Upload, show and delete models.",
    shown="Show a model: what it is, and what inspection found.",
    deleted="Delete a model that no queued or running job uses; jobs and files stay.",
)


@cli.command()
def upload(
    file: FileOrAddress,
    name: Name = None,
    architecture: Annotated[
        str | None, typer.Option(help="Of a file of weights, such as timm/mobilenetv3_small_100.")
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            help="What the file does not tell, as JSON:"
            ' [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 224, 224]}].'
        ),
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache", help="Of a decoder: take and give keys and values.")
    ] = False,
    sha256: Sha256 = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Upload an ONNX, Keras or PyTorch file, or a zip, and await its inspection."""
    source = file if is_address(file) else local_file(file, sha256)
    options: dict[str, Any] = {
        "name": name, "architecture": architecture, "inputs": _parsed(inputs), "cache": cache
    }  # fmt: skip
    with asking(url) as client:
        if isinstance(source, Path):
            model = client.models.upload(source, **options)
        else:
            model = client.models.from_url(source, sha256=sha256, **options)
        print_one(model, as_json=as_json)


@cli.command()
def download(
    model: Id,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", callback=place, help="A name, or a directory."),
    ] = Path(),
    form: Annotated[
        Literal["upload", "onnx"], typer.Option(help="As uploaded, or the self-contained graph.")
    ] = "upload",
    url: Url = None,
) -> None:
    """Download a model's bytes."""
    with asking(url) as client:
        tell(f"{client.models.download(model, output, form=form)} is there.")


def _parsed(inputs: str | None) -> list[dict[str, Any]] | None:
    """Read the JSON of ``--inputs``."""
    if inputs is None:
        return None
    try:
        parsed = json.loads(inputs)
    except ValueError as error:
        raise typer.BadParameter(f"--inputs is not JSON: {error}.") from None
    if not isinstance(parsed, list) or not all(isinstance(one, dict) for one in parsed):
        raise typer.BadParameter("--inputs is a list with an object for each input.")
    return parsed
