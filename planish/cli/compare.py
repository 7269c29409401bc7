"""``planish compare``: two files beside each other, on this machine."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from planish.cli.asking import AsJson, print_json, tell
from planish.cli.consoles import console
from planish.cli.deployment import Stop
from planish.cli.ending import at_once
from planish.cli.options import drop, share
from planish.cli.rows import nearness, one_sample, times
from planish.progress import stages

if TYPE_CHECKING:
    from workers.compression.comparing import Compared

BEYOND = 3
"""The exit code where the second file is worse or slower than it may be."""

File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An .onnx file.")]


def compare(
    first: File,
    second: File,
    data: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="What to run them on. Default: at random."),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            parser=drop,
            metavar="SHARE",
            help="Exit with 3 where the second loses more, such as 0.01 or 1%.",
        ),
    ] = None,
    max_slowdown: Annotated[
        float | None,
        typer.Option(
            parser=share,
            metavar="SHARE",
            help="Exit with 3 where it is surely slower by more, such as 0.1 or 10%.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two files: size, latency by turns, and how near the second is to the first.

    Both run here, as you and unconfined: compare files that you trust.
    """
    try:
        with at_once():
            from app.domain.problems import Problem
            from workers.compression.comparing import compare as run
    except ModuleNotFoundError as error:
        raise Stop(f"{error}. To compare files: pip install 'planish[worker]'") from None
    try:
        with tempfile.TemporaryDirectory(prefix="planish-") as workspace, stages() as show:
            found = run(first.resolve(), second.resolve(), data, Path(workspace), show)
    except Problem as problem:
        raise Stop(problem.detail) from None
    if as_json:
        print_json(found)
    else:
        console().print(_table(found, first, second))
    tell(found.verdict)
    for fault in (faults := found.beyond(max_drop, max_slowdown)):
        tell(fault)
    if faults:
        raise typer.Exit(BEYOND)


def _table(found: "Compared", first: Path, second: Path) -> Table:
    table = Table("", first.name, second.name)
    sample = one_sample(found.evaluation.sample_sizes)
    for name, field in (
        ("bytes", "size_bytes"), ("parameters", "parameters"), (f"MACs, {sample}", "macs")
    ):  # fmt: skip
        table.add_row(name, *(f"{getattr(of, field):,}" for of in (found.first, found.second)))
    if (latency := found.evaluation.latency) is not None:
        table.add_row(*times(latency, found.evaluation.threads, sample))
    if found.first.quality and found.second.quality:
        quality = (found.first.quality.value, found.second.quality.value)
        table.add_row(str(found.second.quality.metric), *(f"{value:.4g}" for value in quality))
    if found.second.fidelity:
        table.add_row(*nearness(found.second.fidelity))
    return table
