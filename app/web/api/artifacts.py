"""``/v1/artifacts``: what a job made, byte for byte."""

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.domain.problems import NotFound, RangeNotSatisfiable
from app.services import downloads
from app.web import content
from app.web.problems import documented
from app.web.security import Caller

router = APIRouter(prefix="/artifacts", tags=["artifacts"])


@router.head("/{artifact_id}/content", include_in_schema=False)
@router.get(
    "/{artifact_id}/content",
    response_class=Response,
    responses={**documented(NotFound, RangeNotSatisfiable), **content.DOCUMENTED},
)
async def download_artifact(request: Request, artifact_id: str, call: Caller) -> Response:
    """Download an artifact, or one `Range` of it; `Repr-Digest` holds its SHA-256."""

    def find() -> content.Content:
        with call.transaction() as session:
            return content.Content(*downloads.artifact(session, call.tenant, artifact_id))

    found = await run_in_threadpool(find)
    return await content.respond(request, call.gateway.blobs, found)
