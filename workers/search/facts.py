"""What is known of a search before its first trial, from what inspection found."""

from app.domain.datasets import DatasetDescription
from app.domain.deployments import DEPLOYMENTS
from app.domain.generated import TRAIN
from app.domain.jobs import JobRequest
from app.domain.layer_forms import held_by_all
from app.domain.models import ModelDescription
from app.domain.sensitivity import Sensitivity
from app.domain.steps import Outlook
from app.store.tables import DatasetRow, ModelRow
from workers.search.space import Facts


def facts_of(
    request: JobRequest, model: ModelRow, dataset: DatasetRow | None, chart: Sensitivity | None
) -> Facts:
    """Return the facts of a search whose uploads were inspected.

    Args:
        request: of the search.
        model: that it is to make smaller.
        dataset: of the request; None where it names none.
        chart: of the model's sensitivity, where it was measured.
    """
    objective = request.objective
    assert objective is not None, "only searches are asked for facts"
    described = ModelDescription.model_validate(model.description)
    data = DatasetDescription.model_validate(dataset.description) if dataset else None
    generated = TRAIN.samples if request.data is not None else 0
    minutes = objective.budget.minutes
    return Facts(
        goal=objective.minimize,
        bound=request.bound,
        outlook=Outlook.of(described, model.size_bytes, data.samples if data else generated),
        data="targets" if data and data.targets else "inputs" if data or generated else "none",
        trainable=described.trainable is not False,
        trials=objective.budget.trials,
        share=minutes / objective.budget.trials,
        chart=chart,
        target=request.target,
        to_source="source" in request.deliver,
        timed_here=request.deliver[0] == "onnx"
        and (request.target is None or request.target in DEPLOYMENTS),
        forms=held_by_all(request.deliver),
    )
