"""``/``: what runs, what is new, and where to begin."""

from fastapi import APIRouter, Response

from app.services import jobs, targets, usage
from app.web.dashboard import example, page
from app.web.dashboard.lists import datasets_of, jobs_called, models_of
from app.web.dashboard.visitor import Looking

router = APIRouter()

_NEWEST = 6


@router.get("/")
def start(visitor: Looking) -> Response:
    """Show what the tenant has, and what the deployment can do."""
    with visitor.call.transaction() as session:
        counts = jobs.counts(session, visitor.tenant)
        stored = usage.stored(session, visitor.tenant)
        devices = targets.worker_devices(session)
        offered = targets.announced(session)
    newest, called = jobs_called(visitor, limit=_NEWEST)
    return page.show(
        "start.html",
        visitor,
        models=models_of(visitor, limit=_NEWEST).items,
        datasets=datasets_of(visitor, limit=_NEWEST).items,
        jobs=newest.items,
        called=called,
        counts=counts,
        stored=stored,
        quota=visitor.gateway.settings.quota.stored_bytes,
        devices=devices,
        targets=offered,
        example=example.offered(),
    )


@router.get("/fragments/jobs")
def newest_jobs(visitor: Looking) -> Response:
    """Return the rows of the newest jobs, for a page that keeps itself up to date."""
    newest, called = jobs_called(visitor, limit=_NEWEST)
    return page.show("job_rows.html", visitor, jobs=newest.items, called=called)
