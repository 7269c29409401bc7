"""``/v1/datasets``."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from app.domain.datasets import Dataset, ImageOptions
from app.domain.fault_words import in_words
from app.domain.problems import (
    Conflict,
    FieldError,
    Invalid,
    NotFound,
    RequestInFlight,
    TooLarge,
    TooManyRequests,
    UnsupportedMedia,
)
from app.domain.references import DatasetReference
from app.services import datasets
from app.web.idempotency import IdempotencyKey
from app.web.intake import DATASET, take_in
from app.web.pagination import Page, Walked, page
from app.web.problems import documented
from app.web.security import Caller
from app.web.uploads import Filename, Name, UploadId, file_body

router = APIRouter(prefix="/datasets", tags=["datasets"])

Channels = Annotated[
    str | None,
    Query(max_length=200, description="A number for each channel, comma-separated (images)."),
]


@router.post(
    "",
    status_code=201,
    response_model=Dataset,
    responses={
        202: {
            "model": Dataset,
            "description": "A worker fetches the file.",
        },
        **documented(Conflict, RequestInFlight, TooLarge, UnsupportedMedia, TooManyRequests),
    },
    openapi_extra=file_body(DatasetReference),
)
async def upload_dataset(
    request: Request,
    call: Caller,
    name: Name = None,
    filename: Filename = None,
    upload_id: UploadId = None,
    mean: Channels = None,
    std: Channels = None,
    key: IdempotencyKey = None,
) -> Response:
    """Upload data: an `.npz`, a `.parquet`, or a zip of class folders of images.

    Arrays are named after the model's inputs; `targets` is optional. It is inspected in the
    background, and matched to a model when a job or a plan names both.
    """
    images = _image_options(mean, std)
    return await take_in(
        request,
        call,
        DATASET,
        lambda given: datasets.new(call.tenant, name, filename or given, images),
        upload_id,
        key,
    )


@router.get("")
def list_datasets(call: Caller, walk: Walked) -> Page[Dataset]:
    """List the datasets, newest first."""
    with call.transaction() as session:
        return page(datasets.listed(session, call.tenant, walk))


@router.get("/{dataset_id}", responses=documented(NotFound))
def get_dataset(dataset_id: str, call: Caller) -> Dataset:
    """Show a dataset: what it is, and what inspection found."""
    with call.transaction() as session:
        return datasets.show(session, call.tenant, dataset_id)


@router.delete("/{dataset_id}", status_code=204, responses=documented(NotFound, Conflict))
def delete_dataset(dataset_id: str, call: Caller) -> None:
    """Delete a dataset that no queued or running job uses; jobs and artifacts stay."""
    with call.transaction() as session:
        datasets.delete(session, call.tenant, dataset_id)


def _image_options(mean: str | None, std: str | None) -> ImageOptions:
    """Read the numbers of the query.

    Raises:
        Invalid: They are not numbers, too many, or a deviation that is not positive.
    """
    given = {"mean": mean, "std": std}
    texts = {name: text.split(",") for name, text in given.items() if text is not None}
    try:
        return ImageOptions.model_validate(texts)
    except ValidationError as error:
        faults = [
            FieldError(pointer=f"#/query/{fault['loc'][0]}", detail=in_words(fault))
            for fault in error.errors()
        ]
        raise Invalid(
            "mean and std are one to four numbers, comma-separated, such as mean=0.5,0.5,0.5.",
            errors=faults,
        ) from error
