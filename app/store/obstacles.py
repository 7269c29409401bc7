"""Finds why a job cannot start, once all its uploads are inspected, rejected or deleted."""

from collections.abc import Mapping

from app.domain.datasets import DatasetDescription, require_match, require_same_classes
from app.domain.jobs import EVALUATE_DATASET_POINTER, JobRequest
from app.domain.metric_graphs import misfits
from app.domain.models import ModelDescription
from app.domain.problems import MetricFailed, NotFound, Problem, ProblemDetails
from app.store.tables import DatasetRow, ModelRow


def of(
    request: JobRequest,
    model: ModelRow | None,
    datasets: Mapping[str, DatasetRow | None],
    other_models: Mapping[str, ModelRow | None],
    metric: ModelRow | None,
) -> Problem | ProblemDetails | None:
    """Return the problem with which a job fails before it starts; None if it can start.

    Args:
        request: the request of the job.
        model: the model of the job; None if it was deleted.
        datasets: the datasets that the request names, by JSON pointer.
        other_models: the models that its steps name, by JSON pointer.
        metric: the model that computes the metric, where the request names one.
    """
    problem = _unusable(request, model, datasets) or _missing(request, other_models)
    if problem is not None or model is None:
        return problem
    return _unfit_metric(request, model, metric, datasets)


def _unusable(
    request: JobRequest, model: ModelRow | None, datasets: Mapping[str, DatasetRow | None]
) -> Problem | ProblemDetails | None:
    """Return the problem of a job whose model or datasets cannot be used, if so."""
    rows = {"#/model": model, **datasets}
    ids_ = {"#/model": request.model, **request.datasets}
    for pointer, row in rows.items():
        if row is None:
            return NotFound(f"{ids_[pointer]} was deleted before the job started.")
        if row.status == "rejected":
            return ProblemDetails.model_validate(row.problem)
    assert model is not None, "a missing model was refused"
    inputs = ModelDescription.model_validate(model.description).inputs
    described = [
        DatasetDescription.model_validate(row.description) for row in datasets.values() if row
    ]
    try:
        for dataset in described:
            require_match(dataset, inputs)
        if len(described) == 2:
            require_same_classes(*described)
    except Problem as problem:
        return problem
    return None


def _missing(request: JobRequest, other_models: Mapping[str, ModelRow | None]) -> Problem | None:
    """Return the problem of a job whose steps name a missing or rejected model, if so."""
    for pointer, row in other_models.items():
        if row is None or row.graph_sha256 is None:
            named = request.other_models[pointer]
            return NotFound(f"{named} was deleted before the job started.")
    return None


def _unfit_metric(
    request: JobRequest,
    model: ModelRow,
    metric: ModelRow | None,
    datasets: Mapping[str, DatasetRow | None],
) -> Problem | ProblemDetails | None:
    """Return the problem of a job whose metric is a graph that cannot be used, if so."""
    named = request.evaluate.metric_graph
    if named is None:
        return None
    if metric is None:
        return NotFound(f"{named} was deleted before the job started.")
    if metric.status == "rejected":
        return ProblemDetails.model_validate(metric.problem)
    model_description, metric_description = (
        ModelDescription.model_validate(row.description) for row in (model, metric)
    )
    judged = datasets.get(EVALUATE_DATASET_POINTER) or datasets.get("#/dataset")
    data = judged and DatasetDescription.model_validate(judged.description)
    targets = data.targets if data else None
    reasons = list(
        misfits(
            metric_description.inputs,
            metric_description.outputs,
            model_description.outputs,
            targets,
        )
    )
    return MetricFailed(" ".join(reasons)) if reasons else None
