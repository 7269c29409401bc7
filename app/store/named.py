"""SQL conditions on the uploads that a job reads: two are columns, the others in its request."""

from sqlalchemy import ColumnElement, exists, func, literal_column, or_
from sqlalchemy.orm import aliased

from app.store.tables import DatasetRow, JobRow, ModelRow

_OTHER_MODELS: ColumnElement[str] = literal_column(
    "'$ ? (@.steps[*].teacher == $id || @.steps[*].student.model == $id"
    " || @.evaluate.metric.model == $id)'::jsonpath"
)
"""The JSON path that finds other models in the steps of a request."""


def reads_model(model_id: str) -> ColumnElement[bool]:
    """Select the jobs that read a model."""
    named = func.jsonb_path_exists(
        JobRow.request, _OTHER_MODELS, func.jsonb_build_object("id", model_id)
    )
    return or_(JobRow.model_id == model_id, named)


def reads_dataset(dataset_id: str) -> ColumnElement[bool]:
    """Select the jobs that read a dataset."""
    return or_(JobRow.dataset_id == dataset_id, _evaluate_dataset() == dataset_id)


def uploads_inspected() -> ColumnElement[bool]:
    """Select the jobs whose uploads have all been inspected."""
    model, metric = aliased(ModelRow), aliased(ModelRow)
    dataset, judged = aliased(DatasetRow), aliased(DatasetRow)
    return (
        ~exists().where(model.id == JobRow.model_id, model.status == "inspecting")
        & ~exists().where(dataset.id == JobRow.dataset_id, dataset.status == "inspecting")
        & ~exists().where(judged.id == _evaluate_dataset(), judged.status == "inspecting")
        & ~exists().where(metric.id == _metric_graph(), metric.status == "inspecting")
    )


def _evaluate_dataset() -> ColumnElement[str]:
    dataset_id: ColumnElement[str] = JobRow.request[("evaluate", "dataset")].astext
    return dataset_id


def _metric_graph() -> ColumnElement[str]:
    model_id: ColumnElement[str] = JobRow.request[("evaluate", "metric", "model")].astext
    return model_id
