"""How far a search is, as its job shows it."""

from datetime import datetime
from statistics import mean

from sqlalchemy.orm import Session

from app.domain.searches import SearchState, TrialCounts
from app.domain.wording import minutes
from app.store import events, leases
from workers.search.reading import Search

_PROGRESS_STEP = 0.005
"""Less than this is not told."""


def state_of(search: Search) -> SearchState:
    """Return how far a search is, with the best point that it has."""
    budget = search.objective.budget.trials
    heard = [trial for trial, _ in search.trials if trial.outcome is not None]
    state = SearchState.model_validate(search.row.search)
    counts = TrialCounts(
        budget=budget,
        done=len(heard),
        failed=len(heard) - len(search.points),
        running=search.active,
        left=max(budget - len(heard) - search.active, 0),
    )
    return state.model_copy(update={"trials": counts})


def show(session: Session, search: Search, seconds_left: float) -> None:
    """Say how far the search is; progress never falls."""
    row = search.row
    state = state_of(search)
    row.search = state.model_dump(mode="json")
    count_usage(search)
    total = 60 * search.minutes
    share = max(state.trials.done / state.trials.budget, 1 - seconds_left / total)
    progress = max(row.progress, min(share, 0.99))
    number = min(state.trials.done + 1, state.trials.budget)
    stage = f"trial {number} of {state.trials.budget}, within {minutes(search.minutes)}"
    row.eta_seconds = _eta(search, leases.now(session), seconds_left)
    if progress - row.progress >= _PROGRESS_STEP or (
        row.status == "running" and stage != row.stage
    ):
        row.progress, row.stage = progress, stage
        data = {"progress": progress, "stage": stage, "eta_seconds": row.eta_seconds}
        session.flush()
        events.append(session, row.id, "progress", data)


def _eta(search: Search, now: datetime, seconds_left: float) -> float | None:
    """Return when the search will end: with its last trial, or with its minutes if that is sooner.

    A trial that runs says by itself what it has left. Those to come take as long as others took.
    """
    if search.original is not None:
        return search.original.eta_seconds
    running = [
        ((now - job.started_at).total_seconds(), job.eta_seconds)
        for _, job in search.trials
        if job.status == "running" and job.started_at
    ]
    whole = [
        (job.finished_at - job.started_at).total_seconds()
        for _, job in search.trials
        if job.finished_at and job.started_at
    ] or [ran + left for ran, left in running if left is not None]
    if not whole:
        return None
    each = mean(whole)
    rest = sum(max(each - ran, 0.0) if left is None else left for ran, left in running)
    to_come = state_of(search).trials.left + search.active - len(running)
    rest = (rest + to_come * each) / max(len(running), 1)
    return round(max(min(rest, seconds_left), 0.0), 1)


def count_usage(search: Search) -> None:
    """Show what the trials used as what the search used; the tenant's days have it already."""
    row, ran = search.row, [job for _, job in search.trials]
    row.cpu_seconds = sum(job.cpu_seconds for job in ran)
    row.gpu_seconds = sum(job.gpu_seconds for job in ran)
    row.peak_memory_bytes = max((job.peak_memory_bytes for job in ran), default=0)
