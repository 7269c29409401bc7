"""The end of a search: its best point, or the original, becomes its own result."""

from sqlalchemy.orm import Session

from app.domain import job_names
from app.domain.problems import EngineCrashed, Problem, ProblemDetails, RunningLimit
from app.domain.searches import SearchState, front
from app.domain.wording import minutes
from app.store import searches, transitions
from workers.search.progress import count_usage, state_of
from workers.search.reading import Search


def lacks_the_original(search: Search) -> bool:
    """Return whether a job has still to make the original's files, as nothing else is the result.

    Its ONNX file is there. For other formats a job without steps makes and measures them.
    """
    asked = set(search.request.deliver) - {"onnx"}
    tried = search.original is not None or search.row.cancel_requested
    return bool(asked and search.measured) and not tried and _state(search).best is None


def end(session: Session, search: Search) -> None:
    """End a search none of whose trials runs: with the best point as its result."""
    row = search.row
    count_usage(search)
    row.search = state_of(search).model_dump(mode="json")
    if row.cancel_requested:
        transitions.finish(session, row, "cancelled")
        return
    if not search.measured:
        transitions.finish(session, row, "failed", _nothing_measured(search))
        return
    best = _state(search).best
    were = "was" if len(search.points) == 1 else "were"
    counts = f"{len(search.points)} of {len(search.trials)} trials {were} measured."
    counts = f"{counts}{_timed(search)}{_ended(search)}"
    if best is None:
        row.verdict = f"{_adopt_original(session, search)} {counts}"
    else:
        chosen = next(job for _, job in search.trials if job.id == best.id)
        searches.adopt(session, row, chosen)
        said, *notes = (chosen.verdict or "").splitlines() or [""]
        did = job_names.methods_of(best.steps)
        first = f"Trial {best.trial} is the best: {did}. {said} {counts}"
        row.verdict = "\n".join([first, *notes])
    kept = {point.id for point in front(search.points)}
    searches.forget_files(session, [job.id for _, job in search.trials if job.id not in kept])
    transitions.finish(session, row, "succeeded")


def _timed(search: Search) -> str:
    """Say how many trials were timed by the device that is the search's target, if one is."""
    points, device = search.points, next((p.device for p in search.points if p.device), None)
    if device is None:
        return ""
    timed = sum(point.device is not None for point in points)
    others = "" if timed == len(points) else " The times of the others are the workers'."
    return f" {timed} of {len(points)} trials were timed on '{device}'.{others}"


def _ended(search: Search) -> str:
    """Say why a search made fewer trials than it was allowed to, if it did."""
    budget = search.objective.budget
    match _state(search).ended_by:
        case "minutes":
            were = "was" if search.minutes == 1 else "were"
            return (
                f" Its {minutes(search.minutes)} {were} over before all {budget.trials} were made."
            )
        case "exhausted":
            return f" There was nothing else to try, though it might have made {budget.trials}."
    return ""


def _adopt_original(session: Session, search: Search) -> str:
    """Make the original the result, in the formats that are asked for; return the verdict."""
    row, original = search.row, search.original
    verdict = (
        f"Nothing was changed: no pipeline takes less {search.objective.minimize} within the"
        f" bound of {search.request.bound:g} of quality."
    )
    if original is not None and original.compressed is not None:
        searches.adopt(session, row, original)
    else:
        searches.adopt_original(session, row, search.model, search.measured[0])
    if original is None or original.problem is None:
        return verdict
    return f"{verdict} Not all formats could be made of it: {original.problem['detail']}"


def _nothing_measured(search: Search) -> Problem | ProblemDetails:
    """Return why a search without any figures failed: as its last trial did.

    What the search's own minutes have ended says nothing of a trial.
    """
    is_over = _state(search).ended_by == "minutes"
    problems = [
        job.problem
        for _, job in search.trials
        if job.problem is not None and not (is_over and job.problem["type"] == RunningLimit.type)
    ]
    if problems:
        return ProblemDetails.model_validate(problems[-1])
    if search.trials:
        return RunningLimit(
            f"No trial ended within {minutes(search.minutes)}: allow more minutes. The log of the"
            " search says what they went to."
        )
    return EngineCrashed("No trial was made.")


def _state(search: Search) -> SearchState:
    return SearchState.model_validate(search.row.search)
