"""``/datasets``: uploaded data, and which models it fits."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.domain.datasets import ImageOptions, mismatches
from app.services import datasets
from app.web.dashboard import page
from app.web.dashboard.arriving import take
from app.web.dashboard.lists import Cursor, datasets_of, models_of
from app.web.dashboard.visitor import Form, Looking
from app.web.uploads import Received

router = APIRouter()

_COMPARED = 100
"""Models, the newest first, that a dataset is compared with."""


@router.get("/datasets")
def list_datasets(visitor: Looking, cursor: Cursor = None) -> Response:
    """List the datasets."""
    return page.show("datasets.html", visitor, found=datasets_of(visitor, cursor))


@router.post("/datasets")
async def upload_dataset(
    request: Request, visitor: Looking, form_token: Annotated[str, Query()] = ""
) -> Response:
    """Take in the file that a form sends."""
    gateway = visitor.gateway

    def add(session: Session, received: Received) -> str:
        return datasets.add(
            session,
            gateway.settings,
            gateway.blobs,
            received.incoming,
            tenant=visitor.tenant,
            name=None,
            filename=received.filename,
            images=ImageOptions(),
        ).id

    return await take(request, visitor, form_token, "dataset", add)


@router.get("/datasets/{dataset_id}")
def show_dataset(dataset_id: str, visitor: Looking) -> Response:
    """Show a dataset: its arrays, its targets, the models that it fits."""
    with visitor.call.transaction() as session:
        row = datasets.find(session, visitor.tenant, dataset_id)
        dataset, known = datasets.view(row), datasets.described(row)
    fits = [
        (model, mismatches(known, model.inputs))
        for model in models_of(visitor, limit=_COMPARED).items
        if known is not None and model.inputs is not None
    ]
    return page.show("dataset.html", visitor, dataset=dataset, fits=fits)


@router.post("/datasets/{dataset_id}/delete")
def delete_dataset(dataset_id: str, visitor: Looking, form: Form) -> Response:  # noqa: ARG001
    """Forget a dataset that no job uses."""
    with visitor.call.transaction() as session:
        datasets.delete(session, visitor.tenant, dataset_id)
    return page.see("/datasets")
