"""``/v1/jobs``: plan, submit, follow, cancel, retry, delete."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.domain.devices import Measurement
from app.domain.job_answers import Artifact, Front, Job, SubmittedJob
from app.domain.jobs import JobRequest, JobStatus
from app.domain.plans import Plan
from app.domain.problems import (
    Conflict,
    DatasetMismatch,
    IdempotencyMismatch,
    NotAvailable,
    NotFound,
    RequestInFlight,
    TooManyRequests,
)
from app.services import devices, jobs, searches
from app.web.answers import written
from app.web.idempotency import Posted
from app.web.pagination import Page, Walked, page
from app.web.problems import documented
from app.web.security import Caller

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.post(
    "/plan",
    response_model=Plan,
    responses=documented(RequestInFlight, IdempotencyMismatch),
)
def plan_job(request: JobRequest, call: Caller, once: Posted) -> Response:
    """Resolve the steps of a job, and say what is refused, skipped and expected; nothing runs."""
    settings = call.gateway.settings
    return once(200, lambda session: jobs.plan(session, call.tenant, request, settings))


@router.post(
    "",
    status_code=202,
    response_model=SubmittedJob,
    responses=documented(
        RequestInFlight, IdempotencyMismatch, NotAvailable, DatasetMismatch, TooManyRequests
    ),
)
def submit_job(request: JobRequest, call: Caller, once: Posted) -> Response:
    """Queue a job. A model or dataset that is still inspected is waited for."""
    settings = call.gateway.settings
    return once(
        202,
        lambda session: jobs.submit(session, call.tenant, request, settings),
        tell=jobs.subject,
    )


@router.get("", response_model=Page[Job])
def list_jobs(
    call: Caller,
    walk: Walked,
    status: Annotated[JobStatus | None, Query(description="Those in this state alone.")] = None,
    model: Annotated[str | None, Query(max_length=64, description="Those of this model.")] = None,
    tag: Annotated[str | None, Query(max_length=64, description="Those with this tag.")] = None,
    parent: Annotated[
        str | None, Query(max_length=64, description="The trials of this search.")
    ] = None,
) -> Response:
    """List the jobs, newest first, without their step reports; trials only of a ``parent``."""
    with call.transaction() as session:
        found = jobs.listed(
            session, call.tenant, walk, status=status, model=model, tag=tag, parent=parent
        )
    return written(page(found))


@router.get("/{job_id}", response_model=Job, responses=documented(NotFound))
def get_job(job_id: str, call: Caller) -> Response:
    """Show a job: its state, its figures so far, its artifacts."""
    with call.reading() as connection:
        return written(jobs.show(connection, call.tenant, job_id))


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    response_model=Job,
    responses=documented(NotFound, Conflict, RequestInFlight, IdempotencyMismatch),
)
def cancel_job(job_id: str, call: Caller, once: Posted) -> Response:
    """End a queued job at once; stop a running one within seconds."""
    return once(202, lambda session: jobs.cancel(session, call.tenant, job_id))


@router.post(
    "/{job_id}/retry",
    status_code=202,
    response_model=Job,
    responses=documented(NotFound, Conflict, RequestInFlight, IdempotencyMismatch, TooManyRequests),
)
def retry_job(job_id: str, call: Caller, once: Posted) -> Response:
    """Run a failed or cancelled job again from its last finished step."""
    settings = call.gateway.settings
    return once(
        202,
        lambda session: jobs.retry(session, call.tenant, job_id, settings),
        tell=jobs.subject,
    )


@router.delete("/{job_id}", status_code=204, responses=documented(NotFound, Conflict))
def delete_job(job_id: str, call: Caller) -> None:
    """Delete a finished job with its artifacts."""
    with call.transaction() as session:
        jobs.delete(session, call.tenant, job_id)


@router.get("/{job_id}/front", responses=documented(NotFound))
def get_front(job_id: str, call: Caller) -> Front:
    """Show what a search has found: no other trial is as good in cost and in quality."""
    with call.transaction() as session:
        return searches.front_of(session, call.tenant, job_id)


@router.post(
    "/{job_id}/front/{point}/take",
    status_code=202,
    response_model=Job,
    responses=documented(NotFound, Conflict, RequestInFlight, IdempotencyMismatch),
)
def take_point(job_id: str, point: str, call: Caller, once: Posted) -> Response:
    """Make a point of a search's front a job of its own, with its result; nothing runs."""
    return once(202, lambda session: searches.take(session, call.tenant, job_id, point))


@router.get("/{job_id}/artifacts", responses=documented(NotFound))
def list_artifacts(job_id: str, call: Caller, walk: Walked) -> Page[Artifact]:
    """List the files that a job made."""
    with call.transaction() as session:
        return page(jobs.artifacts(session, call.tenant, job_id, walk))


@router.get("/{job_id}/measurements", responses=documented(NotFound))
def list_measurements(job_id: str, call: Caller, walk: Walked) -> Page[Measurement]:
    """List what devices measure of a job's files: what waits, what was measured, what failed."""
    with call.transaction() as session:
        return page(devices.measured(session, call.tenant, job_id, walk))
