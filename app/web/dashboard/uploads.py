"""``/uploads``: files that pages send by the tus protocol, under the session and its form token."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.web import tus
from app.web.api import uploads as api
from app.web.dashboard.visitor import FORM_TOKEN, Looking, Visitor

router = APIRouter(prefix="/uploads", route_class=tus.TusRoute)


def sender(visitor: Looking, form_token: Annotated[str, Query()] = "") -> Visitor:
    """Return who sends bytes from one of our pages."""
    visitor.require_own_form({FORM_TOKEN: form_token})
    return visitor


Sender = Annotated[Visitor, Depends(sender)]


@router.post("")
async def begin_upload(request: Request, visitor: Sender) -> Response:
    """Begin an upload; ``Location`` ends with its id."""
    return await api.begin_upload(request, visitor.call)


@router.head("/{upload_id}")
async def get_upload(request: Request, upload_id: str, visitor: Sender) -> Response:
    """Say how many bytes have arrived."""
    return await run_in_threadpool(api.get_upload, request, upload_id, visitor.call)


@router.patch("/{upload_id}")
async def append_to_upload(request: Request, upload_id: str, visitor: Sender) -> Response:
    """Take the bytes from ``Upload-Offset`` on."""
    return await api.append_to_upload(request, upload_id, visitor.call)
