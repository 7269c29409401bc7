"""A turn of a search: hear what ended, ask what to try next, file that, or end.

A turn is one short transaction that holds no slot and no lease. All that a search knows is in the
store, so any worker may take the next turn, at any time; one that dies within a turn undoes it.
"""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.domain.jobs import METRIC_GRAPH_POINTER, JobRequest, Objective
from app.domain.problems import EngineCrashed, PendingLimit, Problem, ProblemDetails, RunningLimit
from app.domain.searches import SearchPoint, SearchState, TrialCounts, front, words
from app.domain.steps import AnyStep, Quantize
from app.store import events, jobs, leases, obstacles, searches, transitions, workers
from app.store.tables import DatasetRow, JobRow, ModelRow, TrialRow
from app.store.views import point_view
from workers.search import outcomes
from workers.search.facts import facts_of
from workers.search.history import Proposal, Trial
from workers.search.space import Space
from workers.search.strategies import ask

HOPELESS = 3
"""Trials without figures, after which a search in which no trial had any ends."""

_LEAST_MINUTES = 0.05
"""That a trial may run: what is left of the budget is less than this for a moment only."""

_PROGRESS_STEP = 0.005

Trials = list[tuple[TrialRow, JobRow]]


@dataclass(frozen=True)
class _Search:
    """What a turn reads."""

    row: JobRow
    request: JobRequest
    objective: Objective
    model: ModelRow
    dataset: DatasetRow | None
    trials: Trials

    @property
    def active(self) -> int:
        """Trials that wait or run."""
        return sum(job.status in {"queued", "running"} for _, job in self.trials)

    @property
    def points(self) -> list[SearchPoint]:
        """The trials that were measured."""
        found = (point_view(trial, job) for trial, job in self.trials)
        return [point for point in found if point is not None]


def take(session: Session, row: JobRow) -> list[str]:
    """Take a turn of a search whose row is locked; return the trials that now wait for a worker."""
    search = _read(session, row)
    if not isinstance(search, _Search):
        searches.end_trials(session, row.id)
        transitions.finish(session, row, "failed", search)
        return []
    _begin(session, search)
    for trial, job in search.trials:
        if trial.outcome is None and job.finished_at is not None:
            _hear(session, search, trial, job)
    left = _seconds_left(session, search)
    filed = _go_on(session, search, left)
    if row.finished_at is None:
        _show(session, search, left)
    return filed


def _read(session: Session, row: JobRow) -> _Search | Problem | ProblemDetails:
    """Return what a turn reads, or why the search cannot go on."""
    request = JobRequest.model_validate(row.request)
    assert request.objective is not None, "only searches have turns"
    model = session.get(ModelRow, row.model_id)
    datasets = {
        pointer: session.get(DatasetRow, each) for pointer, each in request.datasets.items()
    }
    others = {
        pointer: session.get(ModelRow, other) for pointer, other in request.other_models.items()
    }
    metric = others.pop(METRIC_GRAPH_POINTER, None)
    problem = obstacles.of(request, model, datasets, others, metric)
    if problem is not None:
        return problem
    assert model is not None, "a missing model is an obstacle"
    return _Search(
        row,
        request,
        request.objective,
        model,
        datasets.get("#/dataset"),
        searches.trials(session, row.id),
    )


def _begin(session: Session, search: _Search) -> None:
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


def _hear(session: Session, search: _Search, trial: TrialRow, job: JobRow) -> None:
    """Store what a trial came to, and tell of a new best one."""
    row, objective = search.row, search.objective
    files = jobs.artifacts(session, [job.id])[job.id]
    outcome = outcomes.of_job(job, files, objective.minimize, search.request.bound)
    searches.tell(trial, outcome)
    row.baseline = row.baseline or job.baseline
    state = SearchState.model_validate(row.search)
    point = point_view(trial, job)
    title = f"Trial {trial.number} of {objective.budget.trials} ({words(_steps(job))})"
    if point is None:
        _log(session, row, f"{title}: no figures, {outcome.problem}.")
        return
    said = f"{title}: {point.cost:.1%} of the original's {objective.minimize}"
    said += f", quality falls by {point.drop:.4g}" if point.drop > 0 else ", no quality is lost"
    better = outcome.pays and (state.best is None or point.cost < state.best.cost)
    if not better:
        _log(session, row, f"{said}{'' if point.holds else '; that is out of bounds'}.")
        return
    _log(session, row, f"{said}: the best so far.")
    row.search = state.model_copy(update={"best": point}).model_dump(mode="json")
    events.append(
        session, row.id, "metric", {"step": trial.number, "name": "best", "value": point.cost}
    )
    transitions.tell(session, row, "search.improved")


def _go_on(session: Session, search: _Search, seconds_left: float) -> list[str]:
    """File the next trials, or end where there is nothing more to do."""
    row = search.row
    over = row.cancel_requested or seconds_left <= 0 or _hopeless(search)
    if over:
        if not searches.end_trials(session, row.id):
            _end(session, search)
        return []
    filed = list[str]()
    offers = workers.offers(session)
    fitting = sum(not search.request.requires.lacking([offer]) for offer in offers)
    while search.active < max(fitting, 1):
        proposal = _proposal(search)
        if proposal is None:
            break
        filed.append(_file(session, search, proposal, seconds_left / 60))
    if not search.active:
        _end(session, search)
    return filed


def _proposal(search: _Search) -> Proposal | None:
    """Return what to try next; None where the budget is spent or nothing is left to try."""
    if len(search.trials) >= search.objective.budget.trials:
        return None
    space = Space(facts_of(search.request, search.model, search.dataset, None))
    history = [
        Trial(_steps(job), trial.note, outcomes.stored(trial.outcome))
        for trial, job in search.trials
    ]
    found = ask(search.objective.strategy, space, history, search.request.seed)
    if found is None and not history:
        return Proposal([Quantize()])  # it measures the original, and says why nothing can be done
    return found


def _file(session: Session, search: _Search, proposal: Proposal, minutes: float) -> str:
    """File a trial, and count it among those of this turn."""
    number = max((trial.number for trial, _ in search.trials), default=0) + 1
    asked = outcomes.trial_request(search.request, proposal.steps, max(minutes, _LEAST_MINUTES))
    trial, job = searches.file(session, search.row, number, asked, proposal.note)
    search.trials.append((trial, job))
    return job.id


def _hopeless(search: _Search) -> bool:
    """Return whether trials ended, none could be measured, and more would fare alike."""
    ended = [job for trial, job in search.trials if trial.outcome is not None]
    waited = any((job.problem or {}).get("type") == PendingLimit.type for job in ended)
    return (waited or len(ended) >= HOPELESS) and not search.points


def _seconds_left(session: Session, search: _Search) -> float:
    """Return what is left of the budget's minutes, which count from the first trial's start."""
    limits = search.request.limits
    seconds = 60 * min(search.objective.budget.minutes, limits.running_minutes)
    started = search.row.started_at
    return seconds - ((leases.now(session) - started).total_seconds() if started else 0.0)


def _end(session: Session, search: _Search) -> None:
    """End a search none of whose trials runs: with the best point as its result."""
    row = search.row
    if row.cancel_requested:
        transitions.finish(session, row, "cancelled")
        return
    measured = [job for _, job in search.trials if job.compressed is not None]
    if not measured:
        transitions.finish(session, row, "failed", _nothing_measured(search))
        return
    state = SearchState.model_validate(row.search)
    counts = f"{len(search.points)} of {len(search.trials)} trials were measured."
    if state.best is None:
        searches.adopt_original(session, row, search.model, measured[0])
        row.verdict = (
            f"Nothing was changed: no pipeline takes less {search.objective.minimize} within the"
            f" bound of {search.request.bound:g} of quality. {counts}"
        )
    else:
        chosen = next(job for _, job in search.trials if job.id == state.best.id)
        searches.adopt(session, row, chosen)
        row.verdict = (
            f"Trial {state.best.trial} is the best ({words(state.best.steps)})."
            f" {chosen.verdict or ''} {counts}"
        )
    _count_usage(search)
    row.search = _state(search).model_dump(mode="json")
    kept = {point.id for point in front(search.points)}
    searches.forget_files(session, [job.id for _, job in search.trials if job.id not in kept])
    transitions.finish(session, row, "succeeded")


def _nothing_measured(search: _Search) -> Problem | ProblemDetails:
    """Return why a search without any figures failed: as its last trial did."""
    problems = [job.problem for _, job in search.trials if job.problem is not None]
    if problems:
        return ProblemDetails.model_validate(problems[-1])
    if search.trials:
        return RunningLimit(
            f"No trial ended within the budget of {search.objective.budget.minutes:g} minutes:"
            " allow more, or send a smaller dataset."
        )
    return EngineCrashed("No trial was made.")


def _state(search: _Search) -> SearchState:
    """Return how far a search is, with the best point that it has."""
    budget = search.objective.budget.trials
    heard = [trial for trial, _ in search.trials if trial.outcome is not None]
    state = SearchState.model_validate(search.row.search)
    counts = TrialCounts(
        budget=budget,
        done=len(heard),
        failed=len(heard) - len(search.points),
        running=search.active,
        left=max(budget - len(search.trials), 0),
    )
    return state.model_copy(update={"trials": counts})


def _show(session: Session, search: _Search, seconds_left: float) -> None:
    """Say how far the search is; progress never falls."""
    row = search.row
    state = _state(search)
    row.search = state.model_dump(mode="json")
    _count_usage(search)
    total = 60 * min(search.objective.budget.minutes, search.request.limits.running_minutes)
    share = max(state.trials.done / state.trials.budget, 1 - seconds_left / total)
    progress = max(row.progress, min(share, 0.99))
    stage = f"trial {min(state.trials.done + 1, state.trials.budget)} of {state.trials.budget}"
    row.eta_seconds = _eta(state.trials, total - seconds_left, seconds_left)
    if progress - row.progress >= _PROGRESS_STEP or (
        row.status == "running" and stage != row.stage
    ):
        row.progress, row.stage = progress, stage
        data = {"progress": progress, "stage": stage, "eta_seconds": row.eta_seconds}
        session.flush()
        events.append(session, row.id, "progress", data)


def _eta(trials: TrialCounts, seconds: float, seconds_left: float) -> float | None:
    """Return when the search will end: the rest of its trials, or of its minutes."""
    if not trials.done:
        return None
    rest = (trials.running + trials.left) * seconds / trials.done
    return round(max(min(rest, seconds_left), 0.0), 1)


def _count_usage(search: _Search) -> None:
    """Show what the trials used as what the search used; the tenant's days have it already."""
    row, ran = search.row, [job for _, job in search.trials]
    row.cpu_seconds = sum(job.cpu_seconds for job in ran)
    row.gpu_seconds = sum(job.gpu_seconds for job in ran)
    row.peak_memory_bytes = max((job.peak_memory_bytes for job in ran), default=0)


def _steps(job: JobRow) -> list[AnyStep]:
    return JobRequest.model_validate(job.request).steps or []


def _log(session: Session, row: JobRow, message: str) -> None:
    events.append(session, row.id, "log", {"level": "info", "message": message})
