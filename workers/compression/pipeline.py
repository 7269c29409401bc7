"""From a job directory to a measured artifact: intake, steps, delivery, evaluation, report."""

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
    UPLOAD,
    Compress,
    FinishedStep,
    Result,
    step_directory,
)
from app.domain.jobs import Evaluate
from app.domain.problems import NotAvailable
from app.domain.reports import Manifest, Measures, Report, StepReport
from app.domain.steps import Step
from app.domain.targets import OutputFormat
from workers.compression import delivery, inputs, steps
from workers.compression.delivery import artifacts, judging
from workers.compression.events import Events
from workers.compression.files import sha256
from workers.compression.graph import stats
from workers.compression.graph.load import load
from workers.compression.graph.shapes import inputs_of
from workers.compression.inputs import Inputs
from workers.compression.measure import changes, evaluation, machine, verdict
from workers.compression.measure.evaluation import Measured
from workers.compression.measure.memory import Prober
from workers.compression.samples.context import Context

_STEPS_START, _STEPS_STOP = 0.05, 0.6


def compress(directory: Path, order: Compress, events: Events, prober: Prober | None) -> Result:
    """Carry out an order to compress.

    Args:
        directory: the job's. Finished steps that lie in it are not done again.
        order: what to do.
        events: told of progress.
        prober: measures memory; None leaves it out.

    Raises:
        Problem: model, dataset or a step does not allow it.
    """
    if missing := delivery.missing(order.deliver, order.tools):
        raise NotAvailable(f"This worker cannot deliver {', '.join(missing)}: use 'onnx'.")
    taken = inputs.read(directory, order, events)
    seen = taken.train or taken.ground.samples
    context = Context(
        train=taken.train,
        seed=order.seed,
        threads=taken.ground.threads,
        example=seen.first_run(),
        layout=seen.layout,
        original=directory / MODEL,
        models=directory,
        device=machine.torch_device(),
        evaluate=_wish(order, taken),
        metric=taken.ground.metric,
        max_quality_drop=order.require.max_quality_drop,
        apart=prober,
    )
    graphs = [directory / MODEL]
    finished = []
    for index, step in enumerate(order.steps):
        own = step_directory(directory, index, step.method)
        finished.append(_step(graphs[-1], own, index, order, context, events))
        graphs.append(own / GRAPH)
    events.progress(_STEPS_STOP, "writing the artifacts")
    delivered = artifacts.make(
        order.deliver, graphs[-1], directory, taken.ground, order.tool_failures
    )
    if delivered.waiting:
        return Result(tools=delivered.waiting)
    measured = evaluation.evaluate(
        directory / ORIGINAL, graphs[1:], taken.ground, order.evaluate, events, prober
    )
    figures = judging.judge(
        directory / ORIGINAL, graphs[-1], delivered, measured, taken.ground, order.evaluate, events
    )
    remarks = [changes.notes(*each) for each in zip(finished, graphs, graphs[1:], strict=False)]
    files = {name: made.file for name, made in delivered.made.items()}
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
        model=taken.model,
        dataset=taken.dataset,
        report=report,
        artifacts=artifacts.produced(delivered, figures, directory / ARTIFACTS),
    )


def _wish(order: Compress, taken: Inputs) -> Evaluate:
    """Return how steps judge what they look at: by a metric only where it has what it reads."""
    train, metric = taken.train, taken.ground.metric
    if train is not None and train.targets is not None:
        return order.evaluate
    read = [value.name for value in inputs_of(load(metric))] if metric else [metric_graphs.TARGETS]
    if metric_graphs.TARGETS not in read:
        return order.evaluate
    return order.evaluate.model_copy(update={"metric": None})


def _step(
    before: Path, own: Path, index: int, order: Compress, context: Context, events: Events
) -> FinishedStep:
    """Run a step, or take what an earlier run left of it."""
    count, step = len(order.steps), order.steps[index]
    width = (_STEPS_STOP - _STEPS_START) / count
    start = _STEPS_START + index * width
    done = steps.finished(own)
    if done is None:
        advance = events.span(start, start + width, f"step {index + 1} of {count}: {step.method}")
        own_context = replace(context, workspace=own, tell=partial(events.metric, index))
        done = steps.run(before, own, step, own_context, advance)
    events.step(index)
    return done


def _report(
    directory: Path,
    order: Compress,
    finished: list[FinishedStep],
    remarks: list[list[str]],
    measured: Measured,
    files: Mapping[OutputFormat, Path],
) -> Report:
    """Put figures and changes together."""
    size = order.model_size_bytes or _upload(directory).stat().st_size
    baseline = measured.baseline.model_copy(update={"size_bytes": size})
    final = measured.graphs[-1]
    stages = [baseline, *measured.graphs[:-1], final]
    reports = [
        _step_report(index, step, done, remarks[index], (stages[index], stages[index + 1]))
        for index, (step, done) in enumerate(zip(order.steps, finished, strict=True))
    ]
    allowed = order.require.max_quality_drop
    unlabelled = measured.evaluation.split == "synthetic"
    latency = measured.evaluation.latency
    words = verdict.describe(baseline, final, reports, allowed, latency, synthetic=unlabelled)
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
    )


def _manifest(directory: Path, order: Compress, files: Mapping[OutputFormat, Path]) -> Manifest:
    return Manifest(
        model_sha256=order.model_sha256 or sha256(_upload(directory)),
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
    """Return the uploaded bytes, or the graph that was made of them."""
    upload = directory / UPLOAD
    return upload if upload.exists() else directory / ORIGINAL
