"""The prices of a model: what steps measured before they chose."""

from sqlalchemy.orm import Session

from app.domain.directory import FinishedStep
from app.domain.prices import ModelPrices, StepPrices
from app.services import models
from app.store import prices


def show(session: Session, tenant: str, model_id: str) -> ModelPrices:
    """Return what the latest jobs measured of a model; none where no step has chosen.

    Raises:
        NotFound: The model is not the tenant's.
    """
    models.find(session, tenant, model_id)
    steps = []
    for job, step in prices.latest(session, tenant, model_id):
        finished = FinishedStep.model_validate(step.finished)
        steps.append(
            StepPrices(
                job=job.id,
                step=step.index,
                parameters=job.request["steps"][step.index],
                submitted_at=job.created_at,
                choices=finished.choices,
                layers=finished.prices,
                others=finished.other_prices,
            )
        )
    return ModelPrices(model=model_id, steps=steps)
