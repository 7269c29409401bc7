"""Finds why a job cannot run, as far as the descriptions of its models and datasets tell."""

from collections.abc import Iterator

from app.domain.datasets import class_mismatch, mismatches
from app.domain.jobs import EVALUATE_DATASET_POINTER, JobRequest
from app.domain.problems import DatasetMismatch, Invalid
from app.domain.searches import LEARNING
from app.domain.steps.elastic import NO_BLOCKS
from app.services.inputs import Inputs
from app.services.refusals import delivery, evaluation, steps
from app.services.refusals.fault import Fault, obstacle

__all__ = ["Fault", "faults"]


def faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
    """Yield every reason for which a request is refused."""
    if request.data is not None and request.dataset is not None:
        reason = "A job has a dataset, or generated data in its place: leave one of them out."
        yield Fault(Invalid, "#/data", reason)
    yield from _upload_faults(inputs)
    learns = request.objective is not None and request.objective.strategy in LEARNING
    if request.samples is None and (learns or request.measure is not None):
        what = "This strategy learns" if learns else "Sensitivity is measured"
        reason = (
            f"{what} on samples of a dataset: choose one in 'dataset', or have it made"
            " ('data': 'generated')."
        )
        yield Fault(Invalid, "#/dataset", reason)
    yield from _strategy_faults(request, inputs)
    yield from steps.faults(request, inputs)
    yield from evaluation.faults(request, inputs)
    yield from delivery.faults(request, inputs)


def _strategy_faults(request: JobRequest, inputs: Inputs) -> Iterator[Fault]:
    """Yield why no supernet can be made of a model."""
    model = inputs.model.description
    if request.objective is None or request.objective.strategy != "once_for_all" or model is None:
        return
    pointer = "#/objective/strategy"
    if model.blocks == 0:
        yield Fault(Invalid, pointer, f"'once_for_all': {NO_BLOCKS}: use 'guided'.")
    if (reason := obstacle(model)) is not None:
        yield Fault(Invalid, pointer, f"'once_for_all' trains, and the model cannot be: {reason}")


def _upload_faults(inputs: Inputs) -> Iterator[Fault]:
    model = inputs.model
    if model.rejected:
        yield Fault(Invalid, "#/model", f"The model was rejected: {model.rejected}")
    for pointer, dataset in inputs.datasets.items():
        if dataset.rejected:
            yield Fault(Invalid, pointer, f"The dataset was rejected: {dataset.rejected}")
        if model.description and dataset.description:
            for reason in mismatches(dataset.description, model.description.inputs):
                yield Fault(DatasetMismatch, pointer, reason)
    yield from _judging_faults(inputs)


def _judging_faults(inputs: Inputs) -> Iterator[Fault]:
    """Yield why the dataset for the evaluation does not go with the job's dataset."""
    dataset, judged = inputs.dataset, inputs.evaluate_dataset
    if dataset is None or judged is None:
        return
    if dataset.sha256 == judged.sha256:
        reason = (
            "The dataset to judge on is the job's own, which trains and calibrates: name another"
            " with samples that are not in it, or leave it out to hold a part of the job's out."
        )
        yield Fault(Invalid, EVALUATE_DATASET_POINTER, reason)
    elif dataset.description and judged.description:
        unlike = class_mismatch(judged.description, dataset.description)
        if unlike is not None:
            yield Fault(DatasetMismatch, EVALUATE_DATASET_POINTER, unlike)
