"""``/v1/jobs/{id}/report``: JSON for programs, one page of HTML for people."""

from fastapi import APIRouter, Request, Response

from app.domain.problems import Conflict, NotAcceptable, NotFound
from app.domain.reports import JobReport
from app.services import jobs
from app.web import reports
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
    headers = {"Vary": "Accept"}
    if media == _JSON:
        return Response(report.model_dump_json(), headers=headers, media_type=_JSON)
    headers["Content-Security-Policy"] = reports.CSP
    return Response(reports.render(report), headers=headers, media_type=_HTML)
