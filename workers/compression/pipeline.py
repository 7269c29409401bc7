"""From a job directory to a measured artifact: intake, steps, delivery, evaluation, report."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from app.domain import metric_graphs
from app.domain.directory import (
    ARTIFACTS,
    DATASET,
    EVALUATE_DATASET,
    GRAPH,
    MODEL,
    ORIGINAL,
    SOURCE,
    UPLOAD,
    Compress,
    FinishedStep,
    Result,
    model_file,
    step_directory,
)
from app.domain.homecoming import home_of
from app.domain.jobs import Evaluate
from app.domain.problems import NotAvailable
from app.domain.reports import Manifest, Measures, Report, StepReport
from app.domain.steps import Step
from app.domain.targets import OutputFormat
from workers.compression import delivery, inputs, steps
from workers.compression.delivery import artifacts, judging
from workers.compression.delivery.form import Upload
from workers.compression.events import Events
from workers.compression.files import sha256
from workers.compression.graph import stats
from workers.compression.graph.kept import after_all
from workers.compression.graph.load import load
from workers.compression.graph.shapes import inputs_of
from workers.compression.inputs import Inputs
from workers.compression.intake.reading import is_converted
from workers.compression.measure import changes, evaluation, machine, verdict
from workers.compression.measure.evaluation import Measured
from workers.compression.measure.memory import Prober
from workers.compression.measure.portability import portability
from workers.compression.samples.context import Context

_STEPS_SHARE = 0.6
"""The share of the job's time after which steps look for nothing better."""

_STEPS_STOP = 0.6


def compress(directory: Path, order: Compress, events: Events, prober: Prober | None) -> Result:
    """Carry out an order to compress a model.

    Args:
        directory: the job's directory. Finished steps in it are not repeated.
        order: the steps, the evaluation and the formats.
        events: receives the progress.
        prober: measures peak memory; None leaves it out.

    Raises:
        Problem: the model, the dataset or a step does not allow it.
    """
    seconds = math.inf if order.seconds is None else order.seconds
    deadline = time.monotonic() + _STEPS_SHARE * seconds
    if missing := delivery.missing(order.deliver, order.tools):
        raise NotAvailable(f"This worker cannot deliver {', '.join(missing)}: use 'onnx'.")
    job_inputs = inputs.read(directory, order, events)
    example_samples = job_inputs.train or job_inputs.evaluation_set.samples
    context = Context(
        train=job_inputs.train,
        seed=order.seed,
        threads=job_inputs.evaluation_set.threads,
        example=example_samples.first_run(),
        layout=example_samples.layout,
        original=directory / MODEL,
        models=directory,
        device=machine.torch_device(),
        evaluate=_evaluation_for_steps(order, job_inputs),
        metric=job_inputs.evaluation_set.metric,
        max_quality_drop=order.require.max_quality_drop,
        isolated_run=prober,
        deadline=deadline,
    )
    graphs = [directory / MODEL]
    finished = []
    for index, step in enumerate(order.steps):
        step_files = step_directory(directory, index, step.method)
        finished.append(_step(graphs[-1], step_files, index, order, context, events))
        graphs.append(step_files / GRAPH)
    events.progress(_STEPS_STOP, "writing the artifacts")
    delivered = artifacts.make(
        order.deliver,
        graphs[-1],
        directory,
        job_inputs.evaluation_set,
        order.tool_failures,
        _upload_of(directory, order, finished),
    )
    if delivered.waiting:
        return Result(tools=delivered.waiting)
    measured = evaluation.evaluate(
        directory / ORIGINAL, graphs[1:], job_inputs.evaluation_set, order.evaluate, events, prober
    )
    figures = judging.judge(
        directory / ORIGINAL,
        graphs[-1],
        delivered,
        measured,
        job_inputs.evaluation_set,
        order.evaluate,
        events,
    )
    remarks = [
        changes.notes(*step_and_graphs)
        for step_and_graphs in zip(finished, graphs, graphs[1:], strict=False)
    ]
    files = {name: made.file for name, made in delivered.made.items()}
    elsewhere = {"portability": portability(load(graphs[-1]))}
    measured = replace(measured, evaluation=measured.evaluation.model_copy(update=elsewhere))
    report = _report(directory, order, finished, remarks, measured, files)
    problem = (
        changes.nothing_changed(report.step_reports, stats.operators(load(directory / ORIGINAL)))
        or verdict.shortfall(report.baseline, report.compressed, order.require.max_quality_drop)
        or artifacts.shortfall(delivered)
    )
    events.progress(1.0, "done")
    events.log(report.verdict)
    return Result(
        problem=problem.details() if problem else None,
        model=job_inputs.model,
        dataset=job_inputs.dataset,
        report=report,
        artifacts=artifacts.produced(delivered, figures, directory / ARTIFACTS),
    )


def _evaluation_for_steps(order: Compress, job_inputs: Inputs) -> Evaluate:
    """Return the evaluation that steps use: without a metric where targets are missing."""
    train, metric = job_inputs.train, job_inputs.evaluation_set.metric
    if train is not None and train.targets is not None:
        return order.evaluate
    metric_inputs = (
        [value.name for value in inputs_of(load(metric))] if metric else [metric_graphs.TARGETS]
    )
    if metric_graphs.TARGETS not in metric_inputs:
        return order.evaluate
    return order.evaluate.model_copy(update={"metric": None})


def _step(
    before: Path, directory: Path, index: int, order: Compress, context: Context, events: Events
) -> FinishedStep:
    """Run a step, or read the report of an earlier run that finished it."""
    count, step = len(order.steps), order.steps[index]
    begin = inputs.READ if order.data is None else inputs.MADE
    width = (_STEPS_STOP - begin) / count
    start = begin + index * width
    done = steps.finished(directory)
    if done is None:
        advance = events.span(start, start + width, f"step {index + 1} of {count}: {step.method}")
        step_context = replace(context, workspace=directory, tell=partial(events.metric, index))
        done = steps.run(before, directory, step, step_context, advance)
    events.step(index)
    return done


def _upload_of(directory: Path, order: Compress, finished: list[FinishedStep]) -> Upload | None:
    """Return the file whose layers the result has; None where it is ONNX."""
    file = next((f for f in (directory / SOURCE, directory / UPLOAD) if f.exists()), None)
    if "source" not in order.deliver or file is None or not is_converted(file):
        return None
    student, first = home_of(order.steps)
    return Upload(
        file=file,
        order=order.source,
        graph=directory / MODEL if student is None else model_file(directory, student),
        kept=after_all(step.kept for step in finished[first:]),
    )


def _report(
    directory: Path,
    order: Compress,
    finished: list[FinishedStep],
    remarks: list[list[str]],
    measured: Measured,
    files: Mapping[OutputFormat, Path],
) -> Report:
    """Return the report: figures, changes and the manifest."""
    size = order.model_size_bytes or _upload(directory).stat().st_size
    baseline = measured.baseline.model_copy(update={"size_bytes": size})
    final = measured.graphs[-1]
    stages = [baseline, *measured.graphs[:-1], final]
    reports = [
        _step_report(index, step, done, remarks[index], (stages[index], stages[index + 1]))
        for index, (step, done) in enumerate(zip(order.steps, finished, strict=True))
    ]
    allowed = order.require.max_quality_drop
    latency, split = measured.evaluation.latency, measured.evaluation.split
    words = verdict.describe(baseline, final, reports, allowed, latency, split=split)
    return Report(
        baseline=baseline,
        compressed=final,
        step_reports=reports,
        evaluation=measured.evaluation,
        verdict=words,
        manifest=_manifest(directory, order, files),
    )


def _step_report(
    index: int,
    step: Step,
    done: FinishedStep,
    notes: list[str],
    stages: tuple[Measures, Measures],
) -> StepReport:
    return StepReport(
        index=index,
        method=step.method,
        parameters=step.model_dump(mode="json"),
        seconds=done.seconds,
        before=stages[0],
        after=stages[1],
        layers=done.layers,
        skipped=done.skipped,
        changed=done.changed,
        notes=notes,
        choices=done.choices,
        prices=done.prices,
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
