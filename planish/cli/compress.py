"""``planish compress``: from a file to a smaller one, by a service or by one of its own."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from planish._answers import PATIENCE_S
from planish._requests import JobOptions, job_body
from planish.cli.asking import AsJson, print_json, tell
from planish.cli.consoles import console
from planish.cli.deployment import Stop
from planish.cli.options import drop, file_place, place, samples, service_url
from planish.cli.own_service import service
from planish.cli.rows import latency_of, nearness, one_sample, times
from planish.client import Client
from planish.compressing import DEFAULT_STEPS, GENERATED, Compressed
from planish.compressing import compress as run
from planish.credentials import configured_url
from planish.types import Job


def compress(
    model: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The model's file.")],
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            callback=samples,
            help="What to calibrate and measure with.",
        ),
    ] = None,
    generated_data: Annotated[
        bool, typer.Option("--generated-data", help="Without data: make samples from the model.")
    ] = False,
    max_drop: Annotated[
        float | None,
        typer.Option(parser=drop, metavar="SHARE", help="Quality it may lose: 0.01 or 1%."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            callback=place,
            help="A name, whose suffix says which format is meant; or a directory."
            " Default: <name>.small.onnx beside the model.",
        ),
    ] = None,
    step: Annotated[
        list[str] | None,
        typer.Option(help='A method, or JSON such as \'{"method": "prune"}\'; repeat it.'),
    ] = None,
    minimize: Annotated[
        Literal["latency", "size", "macs"] | None,
        typer.Option(help="Search for steps that make less of it."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Pipelines that a search tries.")] = 20,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long a search goes on.")] = 30,
    target: Annotated[
        str | None,
        typer.Option(help="Where it is to run, such as mobile-litert: the file is for that."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(callback=file_place, help="Write the report there, as a page.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the job is called.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="A word to find the job by; repeat it.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same one gives the same result.")] = 0,
    url: Annotated[
        str | None,
        typer.Option(
            callback=service_url,
            help="Of the service. Default: PLANISH_URL, else the last login's, else one"
            " that is started here and stopped again.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compress a model, and leave the result and what was measured.

    Exits with 1 if that failed, 2 if the job was cancelled, 4 if an API key is missing.
    """
    if generated_data and data is not None:
        raise Stop("Name --data, or --generated-data in its place: not both.")
    if step and minimize is not None:
        raise Stop("--minimize searches for steps: leave --step out.")
    steps = [_step(text) for text in step] if step else DEFAULT_STEPS if minimize is None else None
    made_data = GENERATED if generated_data else None
    options: JobOptions = {"seed": seed}
    if target is not None:
        options["target"] = target
    if name is not None:
        options["name"] = name
    if tag:
        options["tags"] = tag
    if minimize is not None:
        budget = {"trials": trials, "minutes": minutes}
        options["objective"] = {"minimize": minimize, "budget": budget}
    request = job_body("", steps, None, made_data, max_drop, options)
    named = url or configured_url()
    patience_s = 0 if named is None else PATIENCE_S  # one of ours that has died is not back
    with (
        service(named, request, output) as address,
        Client(address, patience_s=patience_s, on_outage=tell) as client,
    ):
        made = run(
            model,
            made_data or data,
            max_quality_drop=max_drop,
            steps=steps,
            output=output,
            client=client,
            on_job=None if named is None else _say_where,
            **options,
        )
        if report is not None:
            report.write_text(client.jobs.report_page(made.job))
    if as_json:
        print_json({"file": str(made.file), "job": made.job.model_dump(mode="json")})
    else:
        console().print(_table(made))
    tell(made.job.verdict or f"{made.file} is there.")


def _say_where(job: Job) -> None:
    tell(
        f"The job is {job.id}. Ctrl-C cancels it; if this command is cut off, it goes on: see"
        f" `planish jobs wait {job.id}`, and `download`."
    )


def _step(text: str) -> dict[str, Any]:
    if not text.lstrip().startswith("{"):
        return {"method": text}
    try:
        step: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise Stop(f"--step {text!r} is no JSON: {error}.") from None
    return step


def _table(made: Compressed) -> Table:
    table = Table("", "original", "compressed", title=str(made.file), title_justify="left")
    before, after = made.job.baseline, made.job.compressed
    assert before, "a job that succeeded was measured"
    assert after, "a job that succeeded was measured"
    table.add_row("bytes", f"{before.size_bytes:,}", f"{after.size_bytes:,}")
    if (latency := latency_of(made.report)) is not None:
        evaluation = made.report["evaluation"]
        sample = one_sample(evaluation.get("sample_sizes", {}))
        table.add_row(*times(latency, evaluation["threads"], sample))
    table.add_row("parameters", f"{before.parameters:,}", f"{after.parameters:,}")
    if before.quality and after.quality:
        name = f"{after.quality.metric}, {after.quality.samples} unseen samples"
        table.add_row(name, f"{before.quality.value:.4g}", f"{after.quality.value:.4g}")
    if after.fidelity:
        table.add_row(*nearness(after.fidelity))
    return table
