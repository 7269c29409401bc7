"""``planish demo``: a real trained model through the whole service, on this machine alone."""

import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from planish.cli.consoles import console
from planish.cli.deployment import Stop
from planish.cli.ending import at_once, end_as_interrupted
from planish.cli.rows import latency_of, times
from planish.client import Client
from planish.types import Dataset, Job, Model

if TYPE_CHECKING:
    from planish.demo.receiver import Receiver
    from planish.demo.text_lines import Lines

_FEWEST_LINES = 32
"""A fifth is held out: fewer would say nothing of how many characters are read right."""
_STEPS = [{"method": "quantize", "mode": "static"}]
_WEBHOOK_S = 30.0

screen = console()


def demo(
    output: Annotated[Path, typer.Option(help="Where the results are left.")] = Path("demo-output"),
    lines: Annotated[
        int,
        typer.Option(min=_FEWEST_LINES, help="Lines of text that are drawn: fewer are quicker."),
    ] = 256,
) -> None:
    """Compress a trained text reader with a service of its own, and show what came of it.

    Needs no network and no service; what it starts, it stops.
    """
    with at_once():
        from app.local.server import DidNotStart
        from planish import embedded
        from planish.demo import receiver, text_lines

    end_as_interrupted(signal.SIGTERM, signal.SIGHUP)
    began = time.monotonic()
    drawn = text_lines.draw(lines, seed=0)
    try:
        with ExitStack() as running:
            screen.print("Starting the service: PostgreSQL, Valkey, gateway, workers …")
            url = running.enter_context(embedded.running(WEBHOOK_ALLOWED_NETWORKS="127.0.0.0/8"))
            client = running.enter_context(Client(url))
            hook = running.enter_context(receiver.receiving())
            hook.secret = client.create_webhook(hook.url).secret or ""
            model, dataset = _upload(client, drawn)
            job = _run(client, model, dataset)
            _await_webhook(hook, job)
            report = client.report(job)
            artifact = _keep(client, job, output)
    except (DidNotStart, ModuleNotFoundError) as error:
        raise Stop(f"{error}. The demo needs: pip install 'planish[demo]'") from None
    screen.print(_table(job, report, drawn, artifact))
    screen.print(f"In words: {job.verdict or report['verdict']}")
    screen.print(f"Artifact: {artifact}\nReport:   {output / 'report.html'}")
    screen.print(f"Everything is stopped again; it took {time.monotonic() - began:.0f} s.")


def _upload(client: Client, lines: "Lines") -> tuple[Model, Dataset]:
    """Upload model and data; the lines' texts stay here, so the service has no targets."""
    import numpy as np

    from planish.demo.text_lines import model_path

    model = client.upload_model(model_path(), name="PP-OCRv6, reads a line of text")
    screen.print(
        f"Model:    {model.name}: {model.parameters:,} parameters, {model.size_bytes:,} bytes,"
        f" opset {model.opset}"
    )
    assert model.inputs, "a model that is ready has been described"
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "lines.npz"
        np.savez(file, allow_pickle=False, **{model.inputs[0].name: lines.images})
        dataset = client.upload_dataset(file, name="lines of text")
    screen.print(f"Data:     {dataset.samples} drawn lines, such as {lines.texts[0]!r}")
    return model, dataset


def _run(client: Client, model: Model, dataset: Dataset) -> Job:
    """Submit the job, and wait for it."""
    job = client.submit(model, _STEPS, dataset=dataset, name="demo", tags=["demo"])
    screen.print(f"Job:      {job.id}: {_STEPS[0]}")
    return client.jobs.wait(job)


def _await_webhook(hook: "Receiver", job: Job) -> None:
    try:
        message = hook.wait(_WEBHOOK_S)
    except TimeoutError as error:
        raise Stop(str(error)) from None
    if message["data"]["id"] != job.id:
        raise Stop(f"the webhook tells of {message['data']['id']}, not of {job.id}")
    screen.print(f"Webhook:  {message['type']} arrived; its signature is good")


def _keep(client: Client, job: Job, output: Path) -> Path:
    output.mkdir(parents=True, exist_ok=True)
    (output / "report.html").write_text(client.report_page(job))
    return client.download(job.artifacts[0], output / "text-reader-int8.onnx")


def _table(job: Job, report: dict[str, Any], lines: "Lines", artifact: Path) -> Table:
    """Put original and compressed side by side; the texts are read again here, from the files."""
    from planish.demo.text_lines import model_path, read, share_read_correctly

    held_out = report["evaluation"]["indices"]
    written = [lines.texts[index] for index in held_out]
    was, now = (
        share_read_correctly(read(model, lines.images[held_out]), written)
        for model in (model_path(), artifact)
    )
    before, after = job.baseline, job.compressed
    assert before, "a job that succeeded was measured"
    assert after, "a job that succeeded was measured"
    table = Table("", "original", "compressed", "", title_justify="left", title="Measured")
    smaller = before.size_bytes / after.size_bytes
    table.add_row(
        "size",
        f"{before.size_bytes:,} B",
        f"{after.size_bytes:,} B",
        f"{smaller:.2f} times smaller",
    )
    if (latency := latency_of(report)) is not None:
        interval = latency.deciding.interval
        faster = f"{interval} times as fast" if interval else "not certain"
        table.add_row(*times(latency, report["evaluation"]["threads"], "one line"), faster)
    table.add_row(
        f"characters read right, {len(written)} held-out lines",
        f"{100 * was:.2f} %",
        f"{100 * now:.2f} %",
        f"{100 * (now - was):+.2f} points",
    )
    if after.fidelity:
        sqnr = after.fidelity.sqnr_db
        said = f"{sqnr:.1f} dB (SQNR)" if sqnr else "equal"
        table.add_row("the outputs' signal to error", "", said)
    return table
