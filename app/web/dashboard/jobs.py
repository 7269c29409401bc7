"""``/jobs``: what runs, how it goes, what came of it."""

from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Header, Query, Request, Response

from app.domain.job_answers import Job
from app.domain.jobs import FINISHED, JobStatus
from app.services import devices, downloads, jobs, searches, webhooks
from app.services import events as job_events
from app.web import comparison, layers
from app.web.api import artifacts, events
from app.web.api import reports as api_reports
from app.web.content import disposition
from app.web.dashboard import beside, curves, page, running
from app.web.dashboard.lists import Cursor, jobs_called, jobs_of, models_listed, results_of
from app.web.dashboard.scatter import picture
from app.web.dashboard.sending import Sent, change
from app.web.dashboard.visitor import Looking, Visitor
from app.web.dashboard.webhooks import sent_to

router = APIRouter()

_COMPARED = 8
_PICTURED = 50
"""Jobs of the same model, the newest first, that are in one picture."""
_SHOWN_LINES = 500
_SHOWN_FIGURES = 5000


@router.get("/jobs")
def list_jobs(
    visitor: Looking,
    cursor: Cursor = None,
    status: Literal[JobStatus, ""] = "",
    model: Annotated[str, Query(max_length=64)] = "",
    tag: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """List the jobs, or those that were asked for."""
    tag = tag.strip()
    found, called = jobs_called(
        visitor, cursor, status=status or None, model=model or None, tag=tag or None
    )
    return page.show(
        "jobs.html",
        visitor,
        found=found,
        called=called,
        asked={"status": status, "model": model, "tag": tag},
        statuses=get_args(JobStatus),
        models=models_listed(visitor, [model]),
    )


@router.get("/jobs/compare")
def compare(
    visitor: Looking,
    job: Annotated[list[str], Query(max_length=_COMPARED)] = [],  # noqa: B006
    model: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """Show the results of some jobs side by side; with a model, its newest ones after them."""
    newest = jobs_of(visitor, limit=_PICTURED, model=model).items if model else []
    with visitor.call.reading() as connection:
        found = [jobs.show(connection, visitor.tenant, job_id) for job_id in job]
        found += [each for each in newest if each.compressed and each.id not in job]
        found = found[:_COMPARED]
        results = beside.results(found, jobs.latencies(connection, found))
    return page.show(
        "compare.html",
        visitor,
        jobs=found,
        results={result.job.id: result for result in results},
        original=results[-1].before if results else None,
        picture=picture(results),
    )


@router.get("/jobs/{job_id}")
def show_job(job_id: str, visitor: Looking) -> Response:
    """Show a job: live while it runs, then its result."""
    with visitor.call.transaction() as session:
        seen = job_events.last(session, [job_id]).get(job_id, 0)  # before the job: no end is missed
        job = jobs.show(session, visitor.tenant, job_id)
        report = jobs.report(session, visitor.tenant, job_id) if job.compressed else None
        hook = webhooks.of_job(session, visitor.tenant, job_id)
        told_of_it = sent_to(session, visitor, hook.id) if hook else None
        front = searches.front_of(session, visitor.tenant, job_id) if job.search else None
        on_devices = devices.of_job(session, job.id)
        finished = job.status in FINISHED
        told = job_events.lines(session, job.id, seen, _SHOWN_LINES)
        trained = job_events.figures(session, job.id, _SHOWN_FIGURES) if finished else []
    figures = list[comparison.Figure]()
    if report is not None:
        figures = comparison.figures(report.baseline, report.compressed, report.evaluation)
    changed = layers.changed(job.step_reports or [])
    return page.show(
        "job.html",
        visitor,
        job=job,
        seen=seen,
        front=front,
        hook=hook,
        sent=told_of_it,
        on_devices=on_devices,
        finished=finished,
        told=told,
        trainings=curves.of_trainings(trained),
        picture=picture(_of_same_model(visitor, job)) if job.compressed else None,
        run=running.lines(job.artifacts, report.evaluation.run if report else None),
        headline=comparison.headline(figures, job.compressed) if job.compressed else [],
        figures=figures,
        tone=comparison.tone(job.status, figures, report),
        layers=changed,
        layer_picture=layers.picture(changed),
        measured=bool(figures),
    )


@router.get("/jobs/{job_id}/state")
def show_state(job_id: str, visitor: Looking) -> Response:
    """Return the part of a job's page that changes while it runs."""
    with visitor.call.reading() as connection:
        job = jobs.show(connection, visitor.tenant, job_id)
    return page.show("job_state.html", visitor, job=job, finished=job.status in FINISHED)


@router.get("/jobs/{job_id}/events")
async def follow(
    job_id: str,
    visitor: Looking,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Response:
    """Follow a job's events from a page."""
    return await events.stream(visitor.call, job_id, last_event_id)


@router.get("/jobs/{job_id}/report")
def show_report(request: Request, job_id: str, visitor: Looking) -> Response:
    """Show the report, self-contained: it can be saved and sent."""
    return api_reports.get_report(request, job_id, visitor.call)


@router.get("/jobs/{job_id}/report.json")
def download_report(job_id: str, visitor: Looking) -> Response:
    """Download the report for programs."""
    with visitor.call.transaction() as session:
        report = jobs.report(session, visitor.tenant, job_id)
        name = downloads.name_of_report(session, visitor.tenant, job_id)
    headers = {"Content-Disposition": disposition(name)}
    return Response(report.model_dump_json(indent=1), 200, headers, "application/json")


@router.get("/artifacts/{artifact_id}")
async def download_artifact(request: Request, artifact_id: str, visitor: Looking) -> Response:
    """Download what a job made."""
    return await artifacts.download_artifact(request, artifact_id, visitor.call)


@router.post("/jobs/{job_id}/retry")
def retry(job_id: str, visitor: Looking, once: Sent) -> Response:
    """Queue a failed or cancelled job again."""
    settings = visitor.gateway.settings
    once(
        202,
        lambda session: jobs.retry(session, visitor.tenant, job_id, settings),
        tell=jobs.subject,
    )
    return page.see(f"/jobs/{job_id}")


@router.post("/jobs/{job_id}/cancel")
def cancel(job_id: str, once: Sent) -> Response:
    """End a queued job, or ask the worker of a running one to stop."""
    change(once, jobs.cancel, job_id)
    return page.see(f"/jobs/{job_id}")


@router.post("/jobs/{job_id}/delete")
def delete(job_id: str, once: Sent) -> Response:
    """Delete a finished job with its files."""
    change(once, jobs.delete, job_id)
    return page.see("/jobs")


def _of_same_model(visitor: Visitor, job: Job) -> list[beside.Result]:
    """Return the results of the newest jobs of the job's model, and of the job itself."""
    others = jobs_of(visitor, limit=_PICTURED, model=job.model).items
    return results_of(visitor, [job, *(other for other in others if other.id != job.id)])
