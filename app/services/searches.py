"""The front of a search, and a point of it as a job of its own, in the caller's transaction."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from app.domain import job_names
from app.domain.job_answers import Front, FrontPoint, Job
from app.domain.jobs import JobRequest
from app.domain.problems import Conflict, NotFound
from app.domain.reports import Measures
from app.domain.request_parts import Objective, Require
from app.domain.searches import ORIGINAL, Outcome, SearchState, front
from app.services.jobs import find, show
from app.store import jobs, searches, transitions
from app.store.tables import JobRow, TrialRow
from app.store.views import artifact_view, names, point_view


def front_of(session: Session, tenant: str, job_id: str) -> Front:
    """Return what a search has found so far, the original among it.

    Raises:
        NotFound: It is not the tenant's, or no search.
    """
    row, objective = _search(session, tenant, job_id)
    state = SearchState.model_validate(row.search)
    points = _points(session, row)
    best = state.best.id if state.best else ORIGINAL if points else None
    return Front(goal=objective.minimize, points=points, best=best)


def take(session: Session, tenant: str, job_id: str, point_id: str) -> Job:
    """Make a point of a search a job of its own that has ended: nothing is computed anew.

    Raises:
        NotFound: The search is not the tenant's, or has no such point.
        Conflict: The point is the original, which no job made.
    """
    row, _ = _search(session, tenant, job_id)
    if point_id == ORIGINAL:
        raise Conflict(
            f"The original is the model itself: download /v1/models/{row.model_id}/content."
        )
    found = searches.trial_of(session, row.id, point_id)
    if found is None or point_id not in {point.id for point in _points(session, row)}:
        raise NotFound(f"The front of the search {job_id!r} has no point {point_id!r}.")
    trial, source = found
    request = JobRequest.model_validate(source.request)
    did = job_names.methods_of(request.steps or [])
    name = f"{row.name or row.id}, trial {trial.number}: {did}"
    asked = {"name": name[:200], "tags": row.tags, "require": Require()}
    taken = jobs.row(tenant, request.model_copy(update=asked))
    session.add(taken)
    transitions.enter(session, taken, "queued", "queued")
    searches.adopt(session, taken, source)
    transitions.finish(session, taken, "succeeded")
    session.flush()
    return show(session, tenant, taken.id)


def _search(session: Session, tenant: str, job_id: str) -> tuple[JobRow, Objective]:
    row = find(session, tenant, job_id)
    objective = JobRequest.model_validate(row.request).objective
    if row.search is None or objective is None:
        raise NotFound(f"The job {job_id!r} is no search: it has no front.")
    return row, objective


def _points(session: Session, row: JobRow) -> list[FrontPoint]:
    """Return the front of a search, the least cost first."""
    trials = searches.trials(session, row.id)
    files = jobs.artifacts(session, [job.id for _, job in trials])
    called = jobs.model_names(session, [row.model_id]).get(row.model_id)
    points = _original(row, trials)
    for trial, job in trials:
        point = point_view(trial, job)
        if point is not None:
            first = next(iter(files[job.id]), None)
            name_of = names(job, JobRequest.model_validate(job.request), called)
            artifact = artifact_view(first, name_of) if first else None
            points.append(FrontPoint(**dict(point), artifact=artifact))
    return front(points)


def _original(row: JobRow, trials: Iterable[tuple[TrialRow, JobRow]]) -> list[FrontPoint]:
    """Return the original as a point, once a trial has measured it."""
    if row.baseline is None:
        return []
    figures = Measures.model_validate(row.baseline)
    outcomes = (Outcome.model_validate(trial.outcome) for trial, _ in trials if trial.outcome)
    timed = next((each for each in outcomes if each.device is not None), None)
    return [
        FrontPoint(
            id=ORIGINAL,
            trial=None,
            steps=[],
            size_bytes=figures.size_bytes,
            latency_ms=timed.original_ms if timed else figures.latency_ms,
            macs=figures.macs,
            quality=figures.quality,
            fidelity=None,
            cost=1.0,
            drop=0.0,
            holds=True,
            device=timed.device if timed else None,
            artifact=None,
        )
    ]
