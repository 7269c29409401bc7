"""What a turn of a search reads from the store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.domain.jobs import METRIC_GRAPH_POINTER, JobRequest
from app.domain.problems import Problem, ProblemDetails
from app.domain.request_parts import Objective
from app.domain.searches import SearchPoint
from app.domain.sensitivity import Sensitivity
from app.domain.steps import AnyStep
from app.store import obstacles, searches, sensitivities
from app.store.tables import DatasetRow, JobRow, ModelRow, TrialRow
from app.store.views import point_view

Trials = list[tuple[TrialRow, JobRow]]


class OtherVersion(Exception):  # noqa: N818 (it says what is the case)
    """The search, or a trial of it, has what only another version of the program knows."""


@dataclass(frozen=True)
class Search:
    """What a turn reads."""

    row: JobRow
    request: JobRequest
    objective: Objective
    model: ModelRow
    dataset: DatasetRow | None
    chart: Sensitivity | None
    """Of the model on the search's samples, where it was measured."""
    trials: Trials

    @property
    def active(self) -> int:
        """Trials that wait, run, or are still to be timed by a device."""
        return sum(
            trial.outcome is None and job.status != "cancelled" for trial, job in self.trials
        )

    @property
    def minutes(self) -> float:
        """How long the search may go on, from the start of its first trial."""
        return min(self.objective.budget.minutes, self.request.limits.running_minutes)

    @property
    def measured(self) -> list[JobRow]:
        """The jobs of trials that have figures."""
        return [job for _, job in self.trials if job.compressed is not None]

    @property
    def original(self) -> JobRow | None:
        """The trial without steps, which delivers the model as it is; None before it is filed."""
        return next((job for _, job in self.trials if job.request["steps"] == []), None)

    @property
    def points(self) -> list[SearchPoint]:
        """The trials that were measured."""
        found = (point_view(trial, job) for trial, job in self.trials)
        return [point for point in found if point is not None]


def read(session: Session, row: JobRow) -> Search | Problem | ProblemDetails:
    """Return what a turn reads, or why the search cannot go on.

    Raises:
        OtherVersion: The request of the search, or of a trial, cannot be read here.
    """
    request = _request_of(row)
    trials = searches.trials(session, row.id)
    for _, job in trials:
        _request_of(job)
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
    return Search(
        row,
        request,
        request.objective,
        model,
        datasets.get("#/dataset"),
        _chart(session, request),
        trials,
    )


def _request_of(job: JobRow) -> JobRequest:
    try:
        return JobRequest.model_validate(job.request)
    except ValidationError as error:
        raise OtherVersion(f"{job.id}: {_first_fault(error)}") from error


@contextmanager
def of_this_version() -> Iterator[None]:
    """Tell figures that a newer version has written from figures that are wrong.

    Raises:
        OtherVersion: Fields that this version does not know are all that is wrong.
        ValidationError: Something else is wrong with what was read.
    """
    try:
        yield
    except ValidationError as error:
        if any(each["type"] != "extra_forbidden" for each in error.errors()):
            raise
        raise OtherVersion(f"{error.title}: {_first_fault(error)}") from error


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _chart(session: Session, request: JobRequest) -> Sensitivity | None:
    """Return the chart of the model on the search's own data."""
    if request.samples is None:
        return None
    found = sensitivities.latest(session, request.model, request.samples)
    return None if found is None else Sensitivity.model_validate(found.chart)


def steps_of(job: JobRow) -> list[AnyStep]:
    """Return the steps of a trial."""
    return _request_of(job).steps or []
