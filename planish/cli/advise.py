"""``planish advise``: what may suit a model, before any job."""

from typing import Annotated, Literal

import typer

from planish.cli.asking import AsJson, Columns, Url, asking, id_or_uploaded, print_list
from planish.cli.options import drop
from planish.compressing import GENERATED
from planish.types import Recommendation

_COLUMNS: Columns[Recommendation] = {
    "what": lambda item: item.title,
    "risk": lambda item: item.risk,
    "bytes": lambda item: item.estimate.size_bytes,
    "ms": lambda item: item.estimate.latency_ms and f"{item.estimate.latency_ms:.3g}",
}


def _words(item: Recommendation) -> str:
    return f"{item.reason} {item.caution or ''}".rstrip()


def advise(
    model: Annotated[str, typer.Argument(help="The model's id, mdl_…; or a file.")],
    data: Annotated[
        str | None,
        typer.Option(help="A dataset's id, dst_…; or a file; or 'generated': made from the model."),
    ] = None,
    minimize: Annotated[
        Literal["latency", "size", "macs"], typer.Option(help="What is to become less.")
    ] = "latency",
    max_drop: Annotated[
        float | None,
        typer.Option(parser=drop, metavar="SHARE", help="Quality that may be lost: 0.01 or 1%."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Where the model is to run.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Recommend jobs for a model, the best first; --json has each as a request.

    A file that is named is uploaded, and stays there.
    """
    with asking(url) as client:
        model = id_or_uploaded(model, "mdl", client.models)
        if data is not None and data != GENERATED:
            data = id_or_uploaded(data, "dst", client.datasets)
        found = client.models.recommendations(
            model, minimize=minimize, max_quality_drop=max_drop, target=target, data=data
        )
    print_list(found, _COLUMNS, _words, limit=len(found), as_json=as_json)
