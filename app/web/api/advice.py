"""``/v1/models/{id}/recommendations``: advice before any job."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.domain.deployments import DeploymentName
from app.domain.problems import Conflict, NotFound
from app.domain.recommendations import Minimize, Recommendations
from app.services import advice
from app.services.advice import Wish
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
        DeploymentName | None, Query(description="Where the model is to run, of 'GET /v1/targets'.")
    ] = None,
    data: Annotated[
        str | None,
        Query(max_length=64, description="The id of a dataset. Default: what needs no data."),
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
