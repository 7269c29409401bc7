"""``/datasets``: uploaded data, and which models it fits."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.domain.datasets import (
    DatasetDescription,
    ImageOptions,
    Picture,
    Targets,
    mismatches,
    spare,
)
from app.domain.models import Model
from app.domain.problems import NotFound, Problem
from app.services import datasets
from app.web.dashboard import page
from app.web.dashboard.arriving import refer, take
from app.web.dashboard.lists import Cursor, datasets_of, models_of
from app.web.dashboard.sending import Sent, change
from app.web.dashboard.visitor import Form, Looking
from app.web.intake import DATASET

router = APIRouter()

_COMPARED = 100
"""Models, the newest first, that a dataset is compared with."""
_SHOWN_CLASSES = 50


@router.get("/datasets")
def list_datasets(visitor: Looking, cursor: Cursor = None) -> Response:
    """List the datasets."""
    return page.of_uploads("datasets.html", visitor, datasets_of(visitor, cursor))


@router.post("/datasets")
async def upload_dataset(
    request: Request, visitor: Looking, form_token: Annotated[str, Query()] = ""
) -> Response:
    """Take in the file that a form sends."""
    return await take(
        request,
        visitor,
        form_token,
        DATASET,
        lambda filename: datasets.new(visitor.tenant, None, filename, ImageOptions()),
    )


@router.post("/datasets/fetch")
def fetch_dataset(visitor: Looking, form: Form, once: Sent) -> Response:
    """Have a dataset fetched from its address, or show what is wrong with that."""
    try:
        return refer(visitor, form, DATASET, once)
    except Problem as fault:
        return page.of_uploads("datasets.html", visitor, datasets_of(visitor), fault, form)


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
    return page.show(
        "dataset.html",
        visitor,
        dataset=dataset,
        fits=fits,
        spare=_spare(known, [model for model, reasons in fits if not reasons]),
        glimpses=known.glimpses if known else [],
        classes=_classes(dataset.targets),
    )


@router.get("/datasets/{dataset_id}/pictures/{number}")
def show_picture(dataset_id: str, number: int, visitor: Looking) -> Response:
    """Return the picture of one of the samples that the page shows."""
    with visitor.call.transaction() as session:
        known = datasets.described(datasets.find(session, visitor.tenant, dataset_id))
    glimpses = known.glimpses if known else []
    shown = glimpses[number].shown if 0 <= number < len(glimpses) else None
    if not isinstance(shown, Picture):
        raise NotFound(f"Dataset {dataset_id!r} has no picture {number}.")
    headers = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
    return Response(shown.png, headers=headers, media_type="image/png")


@router.post("/datasets/{dataset_id}/delete")
def delete_dataset(dataset_id: str, once: Sent) -> Response:
    """Forget a dataset that no job uses."""
    change(once, datasets.delete, dataset_id)
    return page.see("/datasets")


def _spare(known: DatasetDescription | None, models: Sequence[Model]) -> list[str]:
    """Return the arrays of data without targets that none of the models reads which it fits."""
    if known is None or known.targets is not None or not models:
        return []
    return spare(known, [tensor for model in models for tensor in model.inputs or []])


def _classes(targets: Targets | None) -> list[tuple[str, int]]:
    """Return the classes that have the most samples, with how many they have."""
    if targets is None or targets.counts is None:
        return []
    names = targets.classes
    named = names if isinstance(names, list) else [str(n) for n in range(len(targets.counts))]
    counted = sorted(zip(named, targets.counts, strict=True), key=lambda each: -each[1])
    return counted[:_SHOWN_CLASSES]
