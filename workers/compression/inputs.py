"""Reads the inputs of a job directory: the graph, training samples, and the evaluation set."""

from dataclasses import dataclass, replace
from pathlib import Path

from app.domain import generated
from app.domain.datasets import DatasetDescription, ImageOptions, Targets, require_same_classes
from app.domain.directory import (
    DATA,
    DATASET,
    EVALUATE_DATA,
    EVALUATE_DATASET,
    METRIC,
    MODEL,
    ORIGINAL,
    UPLOAD,
    Compress,
)
from app.domain.jobs import Evaluate
from app.domain.metric_graphs import misfits
from app.domain.models import ModelDescription
from app.domain.problems import DatasetMismatch, InvalidDataset, InvalidModel, MetricFailed
from workers.compression.events import Events
from workers.compression.graph.load import load
from workers.compression.graph.shapes import inputs_of
from workers.compression.intake.datasets import Data, fit_dataset
from workers.compression.intake.inspect import inspect_model, spec
from workers.compression.learning import generation
from workers.compression.measure import machine, synthetic
from workers.compression.measure.evaluation import require_metric
from workers.compression.measure.evaluation_set import EvaluationSet
from workers.compression.samples import axis
from workers.compression.samples.context import Context, Feeds, Samples
from workers.compression.samples.overlap import rows_not_in
from workers.compression.samples.split import split
from workers.compression.targets import onnx as target
from workers.compression.targets.runner import Outputs

_READ, _MADE = 0.05, 0.3
"""The progress at which inputs are read, and at which samples are made from the model."""

_MAKING = 0.25
"""The most of a job's time that samples take to be made."""


@dataclass(frozen=True)
class Inputs:
    """The inputs of the steps and of the evaluation."""

    train: Samples | None
    """The samples that steps may use; None without a dataset."""
    evaluation_set: EvaluationSet
    model: ModelDescription | None
    """The description, where the upload was inspected in this run."""
    dataset: DatasetDescription | None


def are_there_at(data: generated.GeneratedData | None) -> float:
    """Return the progress at which all inputs are there."""
    return _READ if data is None else _MADE


def read(directory: Path, order: Compress, events: Events) -> Inputs:
    """Read the graph and its data; a directory made by hand may hold just the upload.

    Raises:
        InvalidModel, InvalidDataset: the model or the dataset is broken or missing.
        DatasetMismatch: the dataset does not fit the model.
    """
    events.progress(0.01, "reading the model")
    description = None
    if not (directory / MODEL).exists():
        if not (directory / UPLOAD).exists():
            raise InvalidModel(f"Put the model into the directory as '{UPLOAD}'.")
        description = inspect_model(directory / UPLOAD, directory, order=order.source)
    data = judged = None
    if (directory / DATASET).exists():
        events.progress(0.02, "reading the dataset")
        data = _fitted(directory, DATASET, DATA, order.images)
    if order.evaluate.dataset is not None:
        events.progress(0.03, "reading the dataset to judge on")
        judged = _fitted(directory, EVALUATE_DATASET, EVALUATE_DATA, order.evaluate_images)
    threads = order.threads or machine.default_threads()
    train: Samples | None
    if data is None and order.data is not None:
        train, evaluation_set = _generated(directory, judged, order, threads, events)
    elif judged is not None:
        train, evaluation_set = _separate(data, judged, order, threads)
    elif data is not None:
        train, evaluation_set = _split(data, order, threads)
    else:
        samples = synthetic.draw(directory / ORIGINAL, order.seed)
        train, evaluation_set = None, EvaluationSet(samples, synthetic=True, threads=threads)
    if not evaluation_set.synthetic:
        train, evaluation_set = _with_layout(directory / ORIGINAL, train, evaluation_set)
        evaluation_set = _with_metric(directory, evaluation_set, order.evaluate)
    return Inputs(train, evaluation_set, description, data.description if data else None)


def evaluation_set_of(original: Path, data: Path | None, workspace: Path) -> EvaluationSet:
    """Return an evaluation set of a whole dataset; without one, of seeded random inputs.

    Args:
        original: the graph that the data is for.
        data: the dataset's file.
        workspace: the directory for its arrays.

    Raises:
        InvalidDataset, DatasetMismatch: the dataset is broken, or does not fit the graph.
    """
    threads = machine.default_threads()
    if data is None:
        return EvaluationSet(synthetic.draw(original, 0), synthetic=True, threads=threads)
    model_inputs = [spec(value) for value in inputs_of(load(original))]
    fitted = fit_dataset(data, model_inputs, workspace / DATA, ImageOptions())
    evaluation_set = EvaluationSet(_samples(fitted), synthetic=False, threads=threads)
    return _with_layout(original, None, evaluation_set)[1]


def _with_metric(
    directory: Path, evaluation_set: EvaluationSet, settings: Evaluate
) -> EvaluationSet:
    """Add the metric's graph, where the user names one, after trying it.

    Raises:
        MetricFailed: the graph is missing, does not fit the model's outputs, or does not run.
    """
    if settings.metric_graph is None:
        return evaluation_set
    path, original = directory / METRIC, directory / ORIGINAL
    if not path.exists():
        raise MetricFailed(f"Put the metric's graph into the directory as '{METRIC}'.")
    metric, model, targets = load(path), load(original), evaluation_set.samples.targets
    described = None
    if targets is not None:
        described = Targets(dtype=str(targets.dtype), shape=list(targets.shape), classes=None)
    reasons = misfits(
        [spec(value) for value in inputs_of(metric)],
        [spec(value) for value in metric.graph.outputs],
        [spec(value) for value in model.graph.outputs],
        described,
    )
    if reason := " ".join(reasons):
        raise MetricFailed(f"The metric {settings.metric_graph}: {reason}")
    judged = replace(evaluation_set, metric=path)
    require_metric(original, judged, settings)
    return judged


def _fitted(directory: Path, dataset: str, arrays: str, images: ImageOptions) -> Data:
    """Return a dataset of the directory, fitted to the model's inputs."""
    upload = directory / dataset
    if not upload.exists():
        raise InvalidDataset(f"Put the dataset into the directory as '{dataset}'.")
    model_inputs = [spec(value) for value in inputs_of(load(directory / ORIGINAL))]
    return fit_dataset(upload, model_inputs, directory / arrays, images)


def _split(data: Data, order: Compress, threads: int) -> tuple[Samples, EvaluationSet]:
    """Split the job's dataset: one part trains, the other is the evaluation set."""
    parts = split(len(data), data.targets, order.seed)
    samples = _samples(data)
    held_out = samples.take(parts.held_out.tolist())
    return samples.take(parts.train.tolist()), EvaluationSet(
        held_out, synthetic=False, threads=threads
    )


def _generated(
    directory: Path, judged: Data | None, order: Compress, threads: int, events: Events
) -> tuple[Samples, EvaluationSet]:
    """Make samples from the model: a part is held out, where no dataset is named to judge on."""
    context = Context(
        None, order.seed, threads, device=machine.compute_device(), evaluate=order.evaluate
    )
    effort = _effort(order)
    are_made, ahead = generation.are_made(directory), order.expected
    doing = (
        "reading the samples that were made"
        if are_made
        else f"making samples from the model, {effort.minutes:.2g} minutes at most"
    )
    seconds = None if ahead is None else 0.0 if are_made else ahead.samples_seconds
    advance = events.span(0.03, _MADE, doing, seconds)
    made = generation.made_once(directory, context, advance, effort)
    events.samples_made()
    if judged is not None:
        _, evaluation_set = _separate(None, judged, order, threads)
        return made.samples, replace(evaluation_set, generated=made.generated)
    parts = split(len(made.samples), None, order.seed)
    held_out = made.samples.take(parts.held_out.tolist())
    return made.samples.take(parts.train.tolist()), EvaluationSet(
        held_out, synthetic=True, threads=threads, generated=made.generated
    )


def _effort(order: Compress) -> generated.Effort:
    """Return what is done to make samples, within a share of the job's time."""
    effort = generated.effort_for(order.steps, of_trial=order.of_trial)
    if order.seconds is None:
        return effort
    return replace(effort, minutes=min(effort.minutes, _MAKING * order.seconds / 60))


def _separate(
    data: Data | None, judged: Data, order: Compress, threads: int
) -> tuple[Samples | None, EvaluationSet]:
    """Take a separate dataset as the evaluation set, without samples of the job's dataset."""
    samples, train = _samples(judged), None
    if data is not None:
        require_same_classes(judged.description, data.description)
        train = _samples(data)
        samples = samples.take(rows_not_in(samples, train))
        if not samples:
            raise DatasetMismatch(
                "Every sample to judge on is also in the job's dataset, which trains and"
                " calibrates: name a dataset of other samples in 'evaluate.dataset'."
            )
    evaluation_set = EvaluationSet(
        samples,
        synthetic=False,
        threads=threads,
        dataset=order.evaluate.dataset,
        shared=len(judged) - len(samples),
    )
    return train, evaluation_set


def _with_layout(
    original: Path, train: Samples | None, evaluation_set: EvaluationSet
) -> tuple[Samples | None, EvaluationSet]:
    """Find the layout of the samples and check it in a run, before time is spent on steps.

    Raises:
        DatasetMismatch: the model does not run on this data.
    """
    session = target.open_session(original, evaluation_set.threads)
    names = [output.name for output in session.get_outputs()]

    def run(feeds: Feeds) -> Outputs:
        return dict(zip(names, target.run(session, names, feeds), strict=True))

    layout = axis.find(load(original), run, train or evaluation_set.samples)
    judged = replace(evaluation_set.samples, layout=layout)
    run(judged.first_run())
    return train and replace(train, layout=layout), replace(evaluation_set, samples=judged)


def _samples(data: Data) -> Samples:
    return Samples(data.inputs, data.targets, range(len(data)))
