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
    MODEL,
    ORIGINAL,
    SOURCE,
    TIDIED,
    UPLOAD,
    Compress,
    FinishedStep,
    Result,
    model_file,
    step_directory,
)
from app.domain.homecoming import home_of
from app.domain.jobs import Evaluate
from app.domain.problems import NotAvailable, Problem
from app.domain.reports import Report
from workers.compression import delivery, inputs, reporting, steps
from workers.compression.delivery import artifacts, judging
from workers.compression.delivery.form import Upload
from workers.compression.delivery.result import results
from workers.compression.events import Events
from workers.compression.graph import stats
from workers.compression.graph.as_delivered import as_delivered
from workers.compression.graph.kept import after_all
from workers.compression.graph.load import load
from workers.compression.graph.shapes import inputs_of
from workers.compression.inputs import Inputs
from workers.compression.intake.reading import is_converted
from workers.compression.known_times import KnownTimes
from workers.compression.measure import changes, evaluation, machine, verdict
from workers.compression.measure.memory import Prober
from workers.compression.samples.context import Context

_STEPS_SHARE = 0.6
"""The share of the job's time after which steps look for nothing better."""

_EVALUATION_SHARE = 0.5
"""The share of the time that is left in which held-out samples run; delivered files run after it,
on runtimes of their own."""

_STEPS_STOP = 0.6
"""The progress of a job whose steps are done."""


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
    if missing := delivery.missing(order.deliver, order.tools):
        raise NotAvailable(f"This worker cannot deliver {', '.join(missing)}: use 'onnx'.")
    seconds = math.inf if order.seconds is None else order.seconds
    begun = time.monotonic()
    deadline = begun + _STEPS_SHARE * seconds
    if order.besides_seconds is not None:
        ahead = order.expected
        steps_seconds = None if ahead is None else ahead.steps_seconds
        events.expect(_STEPS_STOP, order.besides_seconds, steps_seconds)
    events.pace_from(inputs.are_there_at(order.data))
    job_inputs = inputs.read(directory, order, events)
    context = _context(directory, order, job_inputs, prober, deadline)
    finished = _run_steps(directory, order, context, events)
    result = _result(directory, order, job_inputs, finished, events, prober, begun + seconds)
    return result.model_copy(update={"layer_times": context.known_times.handed_on})


def _result(
    directory: Path,
    order: Compress,
    job_inputs: Inputs,
    finished: list[FinishedStep],
    events: Events,
    prober: Prober | None,
    end: float,
) -> Result:
    """Write the artifacts, measure them, and report; or name the tools that have to run first.

    The time of the job is over at ``end``, as the monotonic clock counts.
    """
    graphs = reporting.graphs_of(directory, order)
    events.progress(_STEPS_STOP, "writing the artifacts")
    files_of_steps = results(directory / ORIGINAL, graphs[1:], finished)
    delivered = artifacts.make(
        order.deliver,
        graphs[-1],
        files_of_steps[-1],
        directory,
        job_inputs.evaluation_set,
        order.tool_failures,
        _upload_of(directory, order, finished),
    )
    if delivered.waiting:
        return Result(tools=delivered.waiting)
    measured = evaluation.evaluate(
        directory / ORIGINAL,
        files_of_steps,
        job_inputs.evaluation_set,
        order.evaluate,
        events,
        prober,
        _tidied(directory, finished),
        _EVALUATION_SHARE * (end - time.monotonic()),
    )
    judged = judging.judge(
        directory / ORIGINAL,
        graphs[-1],
        delivered,
        measured,
        job_inputs.evaluation_set,
        order.evaluate,
        events,
    )
    report = reporting.report(directory, order, finished, measured, delivered, judged.beside_onnx)
    events.progress(1.0, "storing the result")
    events.log(report.verdict)
    problem = _problem(directory, order, report, delivered)
    return Result(
        problem=problem.details() if problem else None,
        model=job_inputs.model,
        dataset=job_inputs.dataset,
        report=report,
        artifacts=artifacts.produced(delivered, judged.figures, directory / ARTIFACTS),
    )


def _tidied(directory: Path, finished: list[FinishedStep]) -> Path | None:
    """Return the graph that steps began with, as users would get it.

    None where its operators are the upload's, or where no step changed it: then nothing is to be
    told apart.
    """
    if not any(step.changed for step in finished):
        return None
    upload, tidied = (stats.operators(load(directory / name)) for name in (ORIGINAL, MODEL))
    return None if upload == tidied else as_delivered(directory / MODEL, directory / TIDIED)


def _context(
    directory: Path, order: Compress, job_inputs: Inputs, prober: Prober | None, deadline: float
) -> Context:
    """Return the context that the steps of a job have in common."""
    evaluation_set = job_inputs.evaluation_set
    example_samples = job_inputs.train or evaluation_set.samples
    return Context(
        train=job_inputs.train,
        seed=order.seed,
        threads=evaluation_set.threads,
        example=example_samples.first_run(),
        layout=example_samples.layout,
        original=directory / MODEL,
        models=directory,
        device=machine.compute_device(),
        evaluate=_evaluation_for_steps(order, job_inputs),
        metric=evaluation_set.metric,
        max_quality_drop=order.require.max_quality_drop,
        deliver=order.deliver,
        known_times=KnownTimes(order.layer_times),
        isolated_run=prober,
        deadline=deadline,
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


def _run_steps(
    directory: Path, order: Compress, context: Context, events: Events
) -> list[FinishedStep]:
    """Run the steps that are not finished; return the reports of all."""
    begin = inputs.are_there_at(order.data)
    width = (_STEPS_STOP - begin) / max(len(order.steps), 1)
    reports, ran = [], False
    for index, (step, before) in enumerate(
        zip(order.steps, reporting.graphs_of(directory, order), strict=False)
    ):
        step_files = step_directory(directory, index, step.method)
        done = steps.finished(step_files)
        if done is None:
            ran = True
            start, words = begin + index * width, f"step {index + 1} of {len(order.steps)}"
            advance = events.span(start, start + width, f"{words}: {step.method}")
            tell = partial(events.metric, index)
            losses = _losses(order) if index == 0 and step.reads_chart else {}
            earlier = order.steps[:index]
            step_context = replace(
                context,
                earlier=earlier,
                workspace=step_files,
                tell=tell,
                resumed=events.pace_anew,
                losses=losses,
            )
            done = steps.run(before, step_files, step, step_context, advance)
        elif not ran:
            events.pace_from(begin + (index + 1) * width)
        events.step(index)
        reports.append(done)
    return reports


def _losses(order: Compress) -> Mapping[str, float]:
    """Return what layers lose in int8 alone, where a chart of this runtime says it.

    A chart of another seed is not read: samples that it was measured on may be held out here,
    unless the job judges on another dataset.
    """
    chart, runtime = order.chart, "onnxruntime"
    if chart is None or chart.versions.get(runtime) != machine.versions()[runtime]:
        return {}
    if chart.seed != order.seed and order.evaluate.dataset is None:
        return {}
    return chart.costs_of("int8")


def _problem(
    directory: Path, order: Compress, report: Report, delivered: artifacts.Delivered
) -> Problem | None:
    """Return what the result fails to be, None where it is what was asked for."""
    operators = stats.operators(load(directory / ORIGINAL))
    return (
        changes.nothing_changed(report.step_reports, operators)
        or verdict.shortfall(
            report.baseline, report.compressed, order.require.max_quality_drop, order.steps
        )
        or artifacts.shortfall(delivered)
    )


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
