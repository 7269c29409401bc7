"""``/v1/jobs/{id}/report``: JSON for programs, one page of HTML for people."""

import hashlib

from fastapi import APIRouter, Request, Response

from app.domain.problems import Conflict, NotAcceptable, NotFound
from app.domain.reports import JobReport
from app.services import jobs
from app.web import pages, reports
from app.web.content import unchanged
from app.web.negotiation import preferred
from app.web.problems import documented
from app.web.security import Caller

router = APIRouter(prefix="/jobs", tags=["jobs"])

_HTML, _JSON = "text/html", "application/json"


@router.get(
    "/{job_id}/report",
    response_model=JobReport,
    responses={
        200: {"content": {_HTML: {"schema": {"type": "string"}}}},
        304: {"description": "Unchanged since the `ETag` that `If-None-Match` names."},
        **documented(NotFound, NotAcceptable, Conflict),
    },
)
def get_report(request: Request, job_id: str, call: Caller) -> Response:
    """Show what was measured, on what, and how: JSON, or HTML where `Accept` prefers it."""
    media = preferred(request.headers.get("accept", "*/*"), (_JSON, _HTML))
    if media is None:
        raise NotAcceptable(f"The report is {_JSON} or {_HTML}.")
    with call.transaction() as session:
        report = jobs.report(session, call.tenant, job_id)
    body = report.model_dump_json() if media == _JSON else reports.render(report)
    etag = f'"{hashlib.sha256(body.encode()).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Accept, Authorization"}
    if media == _HTML:
        headers["Content-Security-Policy"] = pages.csp()
    if unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media)
