"""A turn of a search: hear what ended, ask what to try next, file that, or end.

A turn is one short transaction that holds no slot and no lease. All that a search knows is in the
store, so any worker may take the next turn, at any time; one that dies within a turn undoes it.
"""

from sqlalchemy.orm import Session

from app.domain import job_names
from app.domain.percentages import percent
from app.domain.problems import PendingLimit
from app.domain.searches import EndedBy, SearchState
from app.settings import Device as DeviceSettings
from app.store import (
    earlier_steps,
    events,
    jobs,
    leases,
    made_samples,
    searches,
    transitions,
    workers,
)
from app.store.tables import JobRow, TrialRow
from app.store.views import point_view
from workers.search import ending, outcomes, timing
from workers.search.asking import is_without_figures, next_proposal
from workers.search.history import Proposal
from workers.search.progress import show
from workers.search.reading import Search, read, steps_of
from workers.search.space import LEAST_MINUTES
from workers.search.strategies import STAND_IN

FILED_PER_TURN = 8
"""Trials that a turn files at most: while a strategy is asked, the search is locked."""


def take(session: Session, row: JobRow, patience: DeviceSettings) -> list[str]:
    """Take a turn of a search whose row is locked; return the trials that now wait for a worker.

    ``patience`` says how long a trial waits for the device that is to time it.
    """
    search = read(session, row)
    if not isinstance(search, Search):
        searches.end_trials(session, row.id)
        transitions.finish(session, row, "failed", search)
        return []
    _begin(session, search)
    left = _seconds_left(session, search)
    over = row.cancel_requested or left <= 0
    for trial, job in search.trials:
        if trial.outcome is not None or job.finished_at is None:
            continue
        if over and job.status == "cancelled" and job.started_at is None:
            continue  # it never ran, and is left of the budget
        if not timing.is_awaited(session, search, job, patience, over=over):
            _hear(session, search, trial, job)
    filed = _go_on(session, search, left)
    if row.finished_at is None:
        show(session, search, left)
    return filed


def _begin(session: Session, search: Search) -> None:
    """Say that the search runs once its first trial does: its minutes count from there."""
    row = search.row
    started = [
        job.started_at
        for _, job in search.trials
        if job.started_at is not None and job.created_at >= row.queued_at
    ]
    if row.status == "queued" and started:
        row.attempts += 1
        row.started_at = min(started)
        transitions.enter(session, row, "running", "searching")
        transitions.tell(session, row, "job.started")


def _hear(session: Session, search: Search, trial: TrialRow, job: JobRow) -> None:
    """Store what a trial came to, and tell of a new best one."""
    row, objective = search.row, search.objective
    files = jobs.artifacts(session, [job.id])[job.id]
    timed = timing.of(session, search, job)
    took = earlier_steps.seconds(session, job.id)
    outcome = outcomes.of_job(job, files, took, objective.minimize, search.request.bound, timed)
    searches.tell(trial, outcome)
    row.baseline = row.baseline or job.baseline
    state = SearchState.model_validate(row.search)
    point = point_view(trial, job)
    steps, budget = steps_of(job), objective.budget.trials
    did = job_names.methods_of(steps)
    title = f"Trial {trial.number} of {budget}, {did}" if steps else "The original"
    begun = events.times_begun(session, job.id)
    title += f", begun {begun} times" if begun > 1 else ""
    if point is None:
        _log(session, row, f"{title}: no figures, {outcome.problem}.")
        return
    said = f"{title}: {percent(point.cost, 1)} of the original's {objective.minimize}"
    said += f" on '{point.device}'" if point.device else ""
    said += f", quality falls by {point.lost}" if point.lost else ", no quality is lost"
    better = outcome.pays and (state.best is None or point.rank < state.best.rank)
    if not better:
        _log(session, row, f"{said}{'' if point.holds else '; that is out of bounds'}.")
        return
    _log(session, row, f"{said}: the best so far.")
    row.search = state.model_copy(update={"best": point}).model_dump(mode="json")
    events.append(
        session, row.id, "metric", {"step": trial.number, "name": "best", "value": point.cost}
    )
    transitions.tell(session, row, "search.improved")


def _go_on(session: Session, search: Search, seconds_left: float) -> list[str]:
    """File the next trials, or end where there is nothing more to do."""
    row, original = search.row, search.original
    if original is not None and original.finished_at is None and not row.cancel_requested:
        return []  # it is the result, whatever is left of the budget
    if row.cancel_requested or seconds_left <= 0 or _is_unattended(search):
        still_runs = searches.end_trials(session, row.id)
        return [] if still_runs else _end(session, search, seconds_left)
    filed = list[str]()
    most = 0 if is_without_figures(search) else _fitting_workers(session, search)
    while search.active < most and len(filed) < FILED_PER_TURN:
        proposal = next_proposal(search)
        if proposal is None:
            break
        filed.append(_file(session, search, proposal, seconds_left / 60))
    return filed if search.active else _end(session, search, seconds_left)


def _fitting_workers(session: Session, search: Search) -> int:
    """Return how many workers may run trials: as many trials are filed, so that none has to wait.

    Samples that are made from the model are made by one trial, for all.
    """
    if search.request.data is not None and made_samples.of_job(session, search.row) is None:
        return 1
    return max(workers.fitting(session, search.request.requires), 1)


def _file(session: Session, search: Search, proposal: Proposal, minutes: float) -> str:
    """File a trial, and count it among those of this turn."""
    if STAND_IN in proposal.note:
        strategy = search.objective.strategy
        _log(session, search.row, f"'{strategy}' has nothing new: the next trial is at random.")
    number = max((trial.number for trial, _ in search.trials), default=0) + 1
    asked = outcomes.trial_request(search.request, proposal.steps, max(minutes, LEAST_MINUTES))
    trial, job = searches.file(session, search.row, number, asked, proposal.note)
    search.trials.append((trial, job))
    return job.id


def _is_unattended(search: Search) -> bool:
    """Return whether a trial waited for a worker in vain, and none was measured.

    One that a device is still to time was measured.
    """
    waited = any((job.problem or {}).get("type") == PendingLimit.type for _, job in search.trials)
    return waited and not search.measured


def _seconds_left(session: Session, search: Search) -> float:
    """Return what is left of the budget's minutes, which count from the first trial's start."""
    started = search.row.started_at
    return 60 * search.minutes - (
        (leases.now(session) - started).total_seconds() if started else 0.0
    )


def _end(session: Session, search: Search, seconds_left: float) -> list[str]:
    """End a search none of whose trials runs; return the trial that has to deliver the original."""
    if search.original is None or search.row.cancel_requested:
        searches.say_ended(search.row, _ended_by(search, seconds_left))
    if ending.lacks_the_original(search):
        minutes = search.request.limits.running_minutes
        return [_file(session, search, Proposal([]), minutes)]
    ending.end(session, search)
    return []


def _ended_by(search: Search, seconds_left: float) -> EndedBy | None:
    """Return what ends a search none of whose trials runs; None where it cannot go on.

    Minutes that are over while nothing was left to do have ended nothing.
    """
    if search.row.cancel_requested:
        return "cancelled"
    is_over = seconds_left <= 0
    cut_off = is_over and any(job.status == "cancelled" for _, job in search.trials)
    if len(search.trials) >= search.objective.budget.trials and not cut_off:
        return "trials"
    if is_over:
        return "minutes"
    return None if is_without_figures(search) or _is_unattended(search) else "exhausted"


def _log(session: Session, row: JobRow, message: str) -> None:
    events.append(session, row.id, "log", {"level": "info", "message": message})
