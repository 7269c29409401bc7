"""The chart of a model's sensitivity: asked for as a job, shown once it is there."""

from pydantic import Field
from sqlalchemy.orm import Session

from app.domain.frozen import Asked
from app.domain.generated import GeneratedData
from app.domain.job_answers import SubmittedJob
from app.domain.jobs import JobRequest
from app.domain.problems import NotFound
from app.domain.request_parts import Limits, Requires, Seed
from app.domain.sensitivity import ModelSensitivity
from app.services import jobs, models
from app.settings import Settings
from app.store import sensitivities


class SensitivityRequest(Asked):
    """The body of ``POST /v1/models/{id}/sensitivity``."""

    dataset: str | None = Field(
        default=None,
        max_length=64,
        description="What is run; a part of it is held out, as in every job.",
    )
    data: GeneratedData | None = Field(
        default=None,
        description="'generated': samples are made from the model itself, in place of a dataset.",
    )
    seed: Seed = 0
    limits: Limits = Limits()
    priority: int = Field(default=0, ge=-10, le=10, description="Among your own jobs.")
    requires: Requires = Requires()

    def job(self, model_id: str) -> JobRequest:
        """Return the job that measures a model so."""
        return JobRequest(model=model_id, measure="sensitivity", **dict(self))


def measure(
    session: Session, tenant: str, model_id: str, request: SensitivityRequest, settings: Settings
) -> SubmittedJob:
    """Queue a job that measures a model.

    Raises:
        NotFound: The model is not the tenant's.
        Invalid: There are no samples, or the dataset is not the tenant's, or does not fit.
        TooManyRequests: The tenant has reached its number of active jobs.
    """
    models.find(session, tenant, model_id)
    return jobs.submit(session, tenant, request.job(model_id), settings)


def show(
    session: Session, tenant: str, model_id: str, dataset: str | None = None
) -> ModelSensitivity:
    """Return the latest chart of a model, or of the model on a dataset.

    Raises:
        NotFound: The model is not the tenant's, or was not measured.
    """
    models.find(session, tenant, model_id)
    row = sensitivities.latest(session, model_id, dataset)
    if row is None:
        on = "" if dataset is None else f" on the data {dataset}"
        raise NotFound(
            f"The sensitivity of this model{on} was not measured: 'POST"
            f" /v1/models/{model_id}/sensitivity' with a dataset does it."
        )
    return ModelSensitivity.model_validate(
        {
            **row.chart,
            "model": row.model_id,
            "dataset": row.dataset_id,
            "job": row.job_id,
            "measured_at": row.measured_at,
        }
    )
