"""``/v1/models/{id}/recommendations``, ``/sensitivity`` and ``/prices``: known before a job."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.domain.deployments import AnyTarget
from app.domain.fault_words import Said
from app.domain.job_answers import SubmittedJob
from app.domain.prices import ModelPrices
from app.domain.problems import (
    Conflict,
    DatasetMismatch,
    IdempotencyMismatch,
    NotFound,
    RequestInFlight,
    TooManyRequests,
)
from app.domain.recommendations import Minimize, Recommendations
from app.domain.sensitivity import ModelSensitivity
from app.services import advice, prices, sensitivities
from app.services.sensitivities import SensitivityRequest
from app.services.wishes import Wish
from app.web.idempotency import Posted
from app.web.problems import documented
from app.web.security import Caller

router = APIRouter(prefix="/models", tags=["models"])


@router.get("/{model_id}/recommendations", responses=documented(NotFound, Conflict))
def recommend(
    model_id: str,
    call: Caller,
    minimize: Annotated[Minimize, Query(description="What is to become less.")] = "latency",
    max_quality_drop: Annotated[
        float | None,
        Query(ge=0, le=1000, allow_inf_nan=False, description="As in a job's 'require'."),
    ] = None,
    target: Annotated[
        Annotated[AnyTarget, Said("must be one of those that 'GET /v1/targets' lists")] | None,
        Query(description="Where the model is to run, of 'GET /v1/targets'."),
    ] = None,
    data: Annotated[
        str | None,
        Query(
            max_length=64,
            description="The id of a dataset, or 'generated' for samples that are made from the"
            " model. Default: what needs no data.",
        ),
    ] = None,
) -> Recommendations:
    """Recommend jobs for a model, the best first.

    Each is a body that `POST /v1/jobs` takes as it is. They come from what the model is made of,
    what this deployment's processors compute fast, and what your finished jobs measured on this
    model and on models of like shape. Nothing runs. What was not measured or computed is null.
    """
    wish = Wish(minimize, max_quality_drop, target, data)
    with call.transaction() as session:
        return advice.recommend(session, call.tenant, model_id, wish)


@router.post(
    "/{model_id}/sensitivity",
    status_code=202,
    response_model=SubmittedJob,
    responses=documented(
        NotFound, RequestInFlight, IdempotencyMismatch, DatasetMismatch, TooManyRequests
    ),
)
def measure_sensitivity(
    model_id: str, request: SensitivityRequest, call: Caller, once: Posted
) -> Response:
    """Queue a job that measures what each layer loses and saves in each form, alone.

    The job has no artifacts; once it has succeeded, `GET` shows the chart.
    """
    settings = call.gateway.settings
    return once(
        202,
        lambda session: sensitivities.measure(session, call.tenant, model_id, request, settings),
        tell="job",
    )


@router.get("/{model_id}/sensitivity", responses=documented(NotFound))
def get_sensitivity(
    model_id: str,
    call: Caller,
    data: Annotated[
        str | None,
        Query(
            max_length=64,
            description="On this dataset, or on samples that were made from the model"
            " ('generated'). Default: the latest.",
        ),
    ] = None,
) -> ModelSensitivity:
    """Show the chart of a model's layers and forms; 404 until it was measured."""
    with call.transaction() as session:
        return sensitivities.show(session, call.tenant, model_id, data)


@router.get("/{model_id}/prices", responses=documented(NotFound))
def get_prices(model_id: str, call: Caller) -> ModelPrices:
    """Show what the latest jobs measured of a model, by which their steps chose among forms.

    Of each step: the graphs that it chose from, with bytes, speed and loss, and what layers lose
    and save by themselves. It is there once the step is done, before the job is.
    """
    with call.transaction() as session:
        return prices.show(session, call.tenant, model_id)
