"""What a job directory holds to work on: the graph, samples to learn from, samples to judge on."""

from dataclasses import dataclass, replace
from pathlib import Path

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
from workers.compression.measure import machine, synthetic
from workers.compression.measure.evaluation import Ground, require_metric
from workers.compression.samples import axis
from workers.compression.samples.context import Feeds, Samples
from workers.compression.samples.overlap import rows_apart
from workers.compression.samples.split import split
from workers.compression.targets import onnx as target
from workers.compression.targets.runner import Outputs


@dataclass(frozen=True)
class Inputs:
    """What the steps and the evaluation work on."""

    train: Samples | None
    """What steps may look at; None without a dataset."""
    ground: Ground
    model: ModelDescription | None
    """Set where the upload was inspected here."""
    dataset: DatasetDescription | None


def read(directory: Path, order: Compress, events: Events) -> Inputs:
    """Make sure of the graph and its data; by hand, from the upload itself.

    Raises:
        InvalidModel, InvalidDataset: one of them is broken or not there.
        DatasetMismatch: they do not fit each other.
    """
    events.progress(0.01, "reading the model")
    description = None
    if not (directory / MODEL).exists():
        if not (directory / UPLOAD).exists():
            raise InvalidModel(f"Put the model into the directory as '{UPLOAD}'.")
        description = inspect_model(directory / UPLOAD, directory)
    data = judged = None
    if (directory / DATASET).exists():
        events.progress(0.02, "reading the dataset")
        data = _fitted(directory, DATASET, DATA, order.images)
    if order.evaluate.dataset is not None:
        events.progress(0.03, "reading the dataset to judge on")
        judged = _fitted(directory, EVALUATE_DATASET, EVALUATE_DATA, order.evaluate_images)
    threads = order.threads or machine.default_threads()
    if judged is not None:
        train, ground = _apart(data, judged, order, threads)
    elif data is not None:
        train, ground = _parted(data, order, threads)
    else:
        samples = synthetic.draw(directory / ORIGINAL, order.seed)
        train, ground = None, Ground(samples, synthetic=True, threads=threads)
    if not ground.synthetic:
        train, ground = _laid_out(directory / ORIGINAL, train, ground)
        ground = _with_metric(directory, ground, order.evaluate)
    return Inputs(train, ground, description, data.description if data else None)


def judged_on(original: Path, data: Path | None, workspace: Path) -> Ground:
    """Return a whole dataset to judge on; without one, seeded random inputs.

    Args:
        original: the graph that the data is for.
        data: the dataset's file.
        workspace: where its arrays are written.

    Raises:
        InvalidDataset, DatasetMismatch: it is broken, or does not fit the graph.
    """
    threads = machine.default_threads()
    if data is None:
        return Ground(synthetic.draw(original, 0), synthetic=True, threads=threads)
    wanted = [spec(value) for value in inputs_of(load(original))]
    fitted = fit_dataset(data, wanted, workspace / DATA, ImageOptions())
    ground = Ground(_samples(fitted), synthetic=False, threads=threads)
    return _laid_out(original, None, ground)[1]


def _with_metric(directory: Path, ground: Ground, wish: Evaluate) -> Ground:
    """Add the graph that computes the metric, where the user names one, once it has been tried.

    Raises:
        MetricFailed: it is not there, does not fit the model's outputs, or does not run on them.
    """
    if wish.metric_graph is None:
        return ground
    path, original = directory / METRIC, directory / ORIGINAL
    if not path.exists():
        raise MetricFailed(f"Put the metric's graph into the directory as '{METRIC}'.")
    metric, model, targets = load(path), load(original), ground.samples.targets
    described = None
    if targets is not None:
        described = Targets(dtype=str(targets.dtype), shape=list(targets.shape), classes=None)
    reasons = misfits(
        [spec(value) for value in inputs_of(metric)],
        [spec(value) for value in metric.graph.outputs],
        [spec(value) for value in model.graph.outputs],
        described,
    )
    if told := " ".join(reasons):
        raise MetricFailed(f"The metric {wish.metric_graph}: {told}")
    judged = replace(ground, metric=path)
    require_metric(original, judged, wish)
    return judged


def _fitted(directory: Path, dataset: str, arrays: str, images: ImageOptions) -> Data:
    """Return a dataset of the directory, fitted to the model's inputs."""
    upload = directory / dataset
    if not upload.exists():
        raise InvalidDataset(f"Put the dataset into the directory as '{dataset}'.")
    wanted = [spec(value) for value in inputs_of(load(directory / ORIGINAL))]
    return fit_dataset(upload, wanted, directory / arrays, images)


def _parted(data: Data, order: Compress, threads: int) -> tuple[Samples, Ground]:
    """Hold a part of the job's dataset out to judge on."""
    parts = split(len(data), data.targets, order.seed)
    whole = _samples(data)
    held_out = whole.take(parts.held_out.tolist())
    return whole.take(parts.train.tolist()), Ground(held_out, synthetic=False, threads=threads)


def _apart(
    data: Data | None, judged: Data, order: Compress, threads: int
) -> tuple[Samples | None, Ground]:
    """Judge on a dataset of its own, but for what is also in the job's: steps see all of that."""
    samples, train = _samples(judged), None
    if data is not None:
        require_same_classes(judged.description, data.description)
        train = _samples(data)
        samples = samples.take(rows_apart(samples, train))
        if not samples:
            raise DatasetMismatch(
                "Every sample to judge on is also in the job's dataset, which trains and"
                " calibrates: name a dataset of other samples in 'evaluate.dataset'."
            )
    ground = Ground(
        samples,
        synthetic=False,
        threads=threads,
        dataset=order.evaluate.dataset,
        shared=len(judged) - len(samples),
    )
    return train, ground


def _laid_out(
    original: Path, train: Samples | None, ground: Ground
) -> tuple[Samples | None, Ground]:
    """Find out how samples stand in what the model reads, before any time is spent on it.

    Raises:
        DatasetMismatch: it cannot compute on this data.
    """
    session = target.open_session(original, ground.threads)
    names = [output.name for output in session.get_outputs()]

    def run(feeds: Feeds) -> Outputs:
        return dict(zip(names, target.run(session, names, feeds), strict=True))

    layout = axis.find(load(original), run, train or ground.samples)
    judged = replace(ground.samples, layout=layout)
    run(judged.first_run())
    return train and replace(train, layout=layout), replace(ground, samples=judged)


def _samples(data: Data) -> Samples:
    return Samples(data.inputs, data.targets, range(len(data)))
