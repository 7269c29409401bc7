"""``planish jobs``."""

from pathlib import Path
from typing import Annotated

import typer

from planish import types
from planish.cli.asking import (
    AsJson,
    Columns,
    Limit,
    Url,
    asking,
    print_json,
    print_list,
    print_one,
    tell,
)
from planish.cli.options import file_place, place

cli = typer.Typer(help="Show jobs, wait for them, cancel, retry, download.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The job's id: job_…")]

_CUT_OFF = {"failed", "cancelled"}

_COLUMNS: Columns[types.Job] = {
    "id": lambda job: job.id,
    "status": lambda job: "ruined" if job.ruined and job.status == "succeeded" else job.status,
    "progress": lambda job: None if job.status in _CUT_OFF else f"{job.progress:.0%}",
    "made": lambda job: f"{job.created_at:%Y-%m-%d %H:%M}",
}


def _words(job: types.Job) -> str:
    """Say what a job is called, or does, and what came of it: the first sentence of that."""
    name = job.title or job.name or ""
    came_of_it = job.verdict or (job.problem and job.problem.detail) or ""
    first = came_of_it.partition("\n")[0].split(". ")[0].removesuffix(".")
    return f"{name}: {first}" if name and first else name or first


@cli.command("list")
def show_all(
    status: Annotated[str | None, typer.Option(help="queued, running, succeeded, …")] = None,
    model: Annotated[str | None, typer.Option(help="Jobs of this model: mdl_…")] = None,
    tag: Annotated[str | None, typer.Option(help="Jobs with this tag.")] = None,
    limit: Limit = 50,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the jobs, newest first."""
    with asking(url) as client:
        found = client.jobs.list(status=status, model=model, tag=tag)
        print_list(found, _COLUMNS, _words, limit=limit, as_json=as_json)


@cli.command()
def get(job: Id, url: Url = None, as_json: AsJson = False) -> None:
    """Show a job: its state, its figures so far, its artifacts."""
    with asking(url) as client:
        print_one(client.jobs.get(job), as_json=as_json)


@cli.command()
def wait(job: Id, url: Url = None, as_json: AsJson = False) -> None:
    """Wait until a job has succeeded; 1 if it failed, 2 if it was cancelled."""
    with asking(url) as client:
        print_one(client.jobs.wait(job), as_json=as_json)


@cli.command()
def events(job: Id, url: Url = None) -> None:
    """Print a job's events, a JSON object a line, until it has ended."""
    with asking(url) as client:
        for event in client.jobs.events(job):
            print(event.model_dump_json(), flush=True)


@cli.command()
def cancel(job: Id, url: Url = None, as_json: AsJson = False) -> None:
    """Cancel a job: a queued one at once, a running one within seconds."""
    with asking(url) as client:
        now = client.jobs.cancel(job)
    if as_json:
        print_json(now)
    tell(f"{job} is {'cancelled' if now.is_finished else 'being cancelled'}.")


@cli.command()
def retry(job: Id, url: Url = None, as_json: AsJson = False) -> None:
    """Queue a failed or cancelled job again; its finished steps are kept."""
    with asking(url) as client:
        now = client.jobs.retry(job)
    if as_json:
        print_json(now)
    tell(f"{job} is {now.status}.")


@cli.command()
def delete(job: Id, url: Url = None) -> None:
    """Delete a finished job with its artifacts."""
    with asking(url) as client:
        client.jobs.delete(job)
    tell(f"{job} is deleted.")


@cli.command()
def download(
    job: Id,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            callback=place,
            help="A name, whose suffix says which file is meant; or a directory.",
        ),
    ] = Path(),
    format_: Annotated[
        str | None,
        typer.Option("--format", help="Which file, such as onnx. Default: as --output says."),
    ] = None,
    url: Url = None,
) -> None:
    """Download what a job made, verified; a download that broke goes on."""
    with asking(url) as client:
        tell(f"{client.jobs.get(job).download(output, format=format_)} is there.")


@cli.command()
def report(
    job: Id,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", callback=file_place, help="Write the HTML page there."),
    ] = None,
    url: Url = None,
) -> None:
    """Print what was measured, on what, and how, as JSON; or write it as a page."""
    with asking(url) as client:
        if output is None:
            print_json(client.jobs.report(job))
        else:
            output.write_text(client.jobs.report_page(job))
            tell(f"{output} is there.")
