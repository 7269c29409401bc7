"""The report of a finished job: its figures, what its steps changed, and its manifest."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from app.domain.directory import (
    DATASET,
    EVALUATE_DATASET,
    GRAPH,
    MODEL,
    ORIGINAL,
    UPLOAD,
    Compress,
    FinishedStep,
    step_directory,
)
from app.domain.reports import Manifest, Measures, Report, StepReport
from app.domain.steps import Step
from app.domain.targets import OutputFormat
from workers.compression.delivery.artifacts import Delivered
from workers.compression.files import sha256
from workers.compression.graph.load import load
from workers.compression.measure import changes, machine, verdict
from workers.compression.measure.evaluation import Measured
from workers.compression.measure.portability import portability


def graphs_of(directory: Path, order: Compress) -> list[Path]:
    """Return the files of the original graph and of the graph after each step."""
    steps_graphs = (
        step_directory(directory, index, step.method) / GRAPH
        for index, step in enumerate(order.steps)
    )
    return [directory / MODEL, *steps_graphs]


def report(
    directory: Path,
    order: Compress,
    finished: list[FinishedStep],
    measured: Measured,
    delivered: Delivered,
    runtimes: list[str],
) -> Report:
    """Return the report: figures, changes and the manifest.

    Args:
        directory: the job's directory.
        order: what was asked for.
        finished: what the steps did.
        measured: the figures of the graphs.
        delivered: the artifacts.
        runtimes: which runtimes are faster, in sentences for the verdict.
    """
    result = graphs_of(directory, order)[-1]
    elsewhere = {"portability": portability(load(result))}
    measured = replace(measured, evaluation=measured.evaluation.model_copy(update=elsewhere))
    files = {name: made.file for name, made in delivered.made.items()}
    size = order.model_size_bytes or _upload(directory).stat().st_size
    baseline = measured.baseline.model_copy(update={"size_bytes": size})
    final = measured.graphs[-1]
    stages = [baseline, *measured.graphs[:-1], final]
    allowed = order.require.max_quality_drop
    aims = allowed is None and (order.data is not None or (directory / DATASET).exists())
    reports = [
        _step_report(index, step, done, stages[index], stages[index + 1], aims=aims)
        for index, (step, done) in enumerate(zip(order.steps, finished, strict=True))
    ]
    words = verdict.describe(baseline, final, reports, allowed, measured.evaluation)
    return Report(
        baseline=baseline,
        compressed=final,
        step_reports=reports,
        evaluation=measured.evaluation,
        verdict="\n".join([words, *runtimes]),
        manifest=_manifest(directory, order, files),
    )


def _step_report(
    index: int, step: Step, done: FinishedStep, before: Measures, after: Measures, *, aims: bool
) -> StepReport:
    return StepReport(
        index=index,
        method=step.method,
        parameters=step.model_dump(mode="json"),
        seconds=done.seconds,
        before=before,
        after=after,
        layers=done.layers,
        skipped=done.skipped,
        changed=done.changed,
        notes=changes.notes(step, done, before, after),
        choices=done.choices,
        prices=done.prices,
        own_bound=step.own_bound if aims else None,
    )


def _manifest(directory: Path, order: Compress, files: Mapping[OutputFormat, Path]) -> Manifest:
    return Manifest(
        model_sha256=order.model_sha256 or sha256(_upload(directory)),
        data=order.data,
        dataset_sha256=order.dataset_sha256 or _sha256(directory / DATASET),
        evaluate_dataset_sha256=order.evaluate_dataset_sha256
        or _sha256(directory / EVALUATE_DATASET),
        steps=[step.model_dump(mode="json") for step in order.steps],
        evaluate=order.evaluate.model_dump(mode="json"),
        require=order.require.model_dump(mode="json"),
        deliver=list(order.deliver),
        seed=order.seed,
        versions=machine.versions(),
        machine=machine.machine(machine.torch_device()),
        artifacts={file.name: sha256(file) for file in files.values()},
    )


def _sha256(path: Path) -> str | None:
    return sha256(path) if path.exists() else None


def _upload(directory: Path) -> Path:
    """Return the file of the upload, or of the graph that was made from it."""
    upload = directory / UPLOAD
    return upload if upload.exists() else directory / ORIGINAL
