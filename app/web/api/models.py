"""``/v1/models``."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.domain.models import Model
from app.domain.problems import (
    Conflict,
    NotFound,
    RangeNotSatisfiable,
    RequestInFlight,
    TooLarge,
    TooManyRequests,
    UnsupportedMedia,
)
from app.domain.references import ModelReference
from app.services import models
from app.web import content
from app.web.hints import Architecture, Cache, Inputs, hints_of
from app.web.idempotency import IdempotencyKey
from app.web.intake import MODEL, take_in
from app.web.pagination import Page, Walked, page
from app.web.problems import documented
from app.web.security import Caller
from app.web.uploads import Filename, Name, UploadId, file_body

router = APIRouter(prefix="/models", tags=["models"])


@router.post(
    "",
    status_code=201,
    response_model=Model,
    responses={
        202: {
            "model": Model,
            "description": "A worker fetches the file.",
        },
        **documented(Conflict, RequestInFlight, TooLarge, UnsupportedMedia, TooManyRequests),
    },
    openapi_extra=file_body(ModelReference),
)
async def upload_model(
    request: Request,
    call: Caller,
    name: Name = None,
    filename: Filename = None,
    architecture: Architecture = None,
    inputs: Inputs = None,
    cache: Cache = False,
    upload_id: UploadId = None,
    key: IdempotencyKey = None,
) -> Response:
    """Upload a model: ONNX, Keras, TorchScript, weights, and others.

    The format is told from the bytes; what is not ONNX is converted to it, and the result is
    compared with the framework's own answers (`conversion`). This and the inspection happen in the
    background; `status` tells when the model is `ready`, or why it is `rejected`. The same bytes
    again make a new model, and are stored once.
    """
    hints = hints_of(architecture, inputs, cache=cache)
    return await take_in(
        request,
        call,
        MODEL,
        lambda given: models.new(call.tenant, name, filename or given, hints),
        upload_id,
        key,
    )


@router.get("")
def list_models(call: Caller, walk: Walked) -> Page[Model]:
    """List the models, newest first."""
    with call.transaction() as session:
        return page(models.listed(session, call.tenant, walk))


@router.get("/{model_id}", responses=documented(NotFound))
def get_model(model_id: str, call: Caller) -> Model:
    """Show a model: what it is, and what inspection found."""
    with call.transaction() as session:
        return models.show(session, call.tenant, model_id)


@router.head("/{model_id}/content", include_in_schema=False)
@router.get(
    "/{model_id}/content",
    response_class=Response,
    responses={**documented(NotFound, Conflict, RangeNotSatisfiable), **content.DOCUMENTED},
)
async def download_model(
    request: Request,
    model_id: str,
    call: Caller,
    form: Annotated[
        Literal["upload", "onnx"],
        Query(description="The uploaded bytes, or the self-contained graph made of them."),
    ] = "upload",
) -> Response:
    """Download the uploaded bytes, or the self-contained ONNX graph."""

    def find() -> content.Content:
        with call.transaction() as session:
            return content.Content(*models.stored(session, call.tenant, model_id, form))

    found = await run_in_threadpool(find)
    return await content.respond(request, call.gateway.blobs, found)


@router.delete("/{model_id}", status_code=204, responses=documented(NotFound, Conflict))
def delete_model(model_id: str, call: Caller) -> None:
    """Delete a model that no queued or running job uses; its jobs and artifacts stay."""
    with call.transaction() as session:
        models.delete(session, call.tenant, model_id)
