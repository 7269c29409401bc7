"""How a worker gets a job: it takes the row, then looks whether the job can start.

The two are transactions of their own. Workers take rows one at a time in a deployment, so that
transaction is short; what has to be read and checked comes after it, under the lease.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice

from sqlalchemy import ColumnElement, Text, cast, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.domain import homecoming
from app.domain.directory import Expected, FinishedStep
from app.domain.generated import effort_for
from app.domain.jobs import EVALUATE_DATASET_POINTER, METRIC_GRAPH_POINTER, JobRequest
from app.domain.models import ModelDescription
from app.domain.problems import Problem, ProblemDetails
from app.domain.reports import Generated
from app.domain.request_parts import DeviceKind
from app.domain.steps import Outlook, forecasts
from app.store import (
    blob_rows,
    earlier_steps,
    leases,
    made_samples,
    named,
    obstacles,
    overheads,
    price_lists,
    transitions,
)
from app.store.tables import DatasetRow, JobRow, ModelRow, StepRow


@dataclass(frozen=True)
class WorkerOffer:
    """The device and labels that a worker offers to jobs."""

    device: DeviceKind
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taken:
    """A job that a worker holds."""

    id: str
    token: int
    attempt: int
    """The number of the attempt, from 1, since the last retry."""
    request: JobRequest
    traceparent: str | None
    """The span of the request that asked for the job."""


@dataclass(frozen=True)
class ClaimedDataset:
    """A dataset that a run reads."""

    sha256: str
    images: dict[str, object]
    """The options for its images."""


@dataclass(frozen=True)
class ClaimedSamples:
    """Samples that were made from a model."""

    sha256: str
    generated: Generated


@dataclass(frozen=True)
class ClaimedSource:
    """An upload of another framework that a run opens again."""

    sha256: str
    hints: dict[str, object]
    """What its user said of it."""


@dataclass(frozen=True)
class Claim(Taken):
    """A job that a worker holds and can run, with everything that the run needs."""

    model_sha256: str
    model_size_bytes: int
    """The size of the upload, or of its ONNX graph if the upload has another format."""
    onnx_sha256: str
    graph_sha256: str
    other_models: dict[str, str]
    """Other models that steps name: the SHA-256 of the graph in normal form, by id."""
    source: ClaimedSource | None
    """The upload whose layers the result has, if the format ``source`` is delivered."""
    metric_sha256: str | None
    """The SHA-256 of the uploaded graph that computes the metric, if there is one."""
    dataset: ClaimedDataset | None
    evaluate_dataset: ClaimedDataset | None
    """The dataset for the evaluation, if the request names one."""
    steps: tuple[tuple[str, FinishedStep], ...]
    """The finished steps in order: the SHA-256 of the graph, and the report."""
    step_keys: tuple[str, ...]
    """The key of each step but for the graph that it is given (``earlier_steps``); empty where no
    result is to be found again."""
    price_lists: Mapping[int, price_lists.PriceList]
    """The price lists that steps read and make, by the index of the step."""
    seconds_left: float
    besides_seconds: float
    """What it is expected to take besides its steps."""
    expected: Expected | None
    """What is expected of the run, where samples are made before its steps."""
    of_trial: bool
    """Whether it is a trial of a search."""
    made_samples: ClaimedSamples | None
    """Samples that were made from the model for this job, or for its search; None where none were
    made yet."""


@cache
def waiting() -> ColumnElement[bool]:
    """Return the condition of jobs that may start: queued, due, with no inspection pending.

    A search is not started: its trials are.
    """
    due = (JobRow.status == "queued") & leases.is_due(JobRow)
    return due & JobRow.search.is_(None) & named.uploads_inspected()


def fits(offer: WorkerOffer) -> ColumnElement[bool]:
    """Return the condition of jobs whose requirements a worker meets.

    Most jobs require no labels, which is said first: PostgreSQL knows how often a value occurs, and
    guesses how often one contains another. By its guess it would sort a tenant's whole queue.
    """
    device = JobRow.requires_device.is_(None) | (JobRow.requires_device == offer.device)
    none = JobRow.requires_labels == cast([], ARRAY(Text))
    some: ColumnElement[bool] = JobRow.requires_labels.contained_by(cast(offer.labels, ARRAY(Text)))
    return device & (none | some)


def take(session: Session, job_id: str, owner: str, seconds: float) -> Taken | None:
    """Lease a waiting job to ``owner`` for ``seconds``; return None if it does not wait any more.

    Raises:
        ValidationError: a newer version wrote the job, and this version cannot read it.
    """
    job = session.scalars(
        select(JobRow)
        .where(JobRow.id == job_id, waiting())
        .with_for_update(skip_locked=True, of=JobRow)
    ).one_or_none()
    if job is None:
        return None
    request = JobRequest.model_validate(job.request)
    token = transitions.take(session, job, owner, seconds)
    attempt = job.attempts - job.spent_attempts
    return Taken(job.id, token, attempt, request, job.traceparent)


def begin(session: Session, taken: Taken, maker: str | None = None) -> Claim | None:
    """Start a job that was taken; return None if there is nothing to run.

    A job whose uploads cannot be used together fails here, with the reason. A job with a pending
    cancellation is cancelled here.

    Args:
        session: A session in a transaction.
        taken: What ``take`` returned.
        maker: What the results of steps follow from on this worker: those that a job has made
            before in the same way are taken from it. None to make all steps.

    Raises:
        LeaseLost: another worker holds the job by now, or it was deleted.
    """
    job = leases.hold(session, JobRow, taken.id, taken.token)
    if job.cancel_requested:
        transitions.finish_unstarted(session, job, "cancelled")
        return None
    uploads = _Uploads.of(session, taken.request)
    problem = uploads.obstacle()
    if problem is not None:
        transitions.finish_unstarted(session, job, "failed", problem)
        return None
    transitions.start(session, job)
    steps = _finished(session, job.id)
    if maker is None:
        return uploads.claim(session, taken, job, steps, (), {})
    contents = uploads.contents(job)
    keys = earlier_steps.keys(taken.request, contents, maker)
    finished = {step.index: step.graph_sha256 for step in steps if step.graph_sha256 is not None}
    earlier_steps.take(session, job, keys, uploads.graph_sha256, finished)
    steps = _finished(session, job.id)
    lists = price_lists.known(session, job, price_lists.keys(taken.request, contents, maker))
    return uploads.claim(session, taken, job, steps, keys, lists)


def put_off(session: Session, job_id: str, seconds: float) -> None:
    """Make a waiting job wait for some more seconds, so that others get their turn."""
    leases.put_off(session, JobRow, job_id, waiting(), seconds)


@dataclass(frozen=True)
class _Uploads:
    """What a job reads, as the request names it; None for what was deleted."""

    request: JobRequest
    model: ModelRow | None
    others: Mapping[str, ModelRow | None]
    """The models that steps name, by JSON pointer."""
    metric: ModelRow | None
    datasets: Mapping[str, DatasetRow | None]
    """By JSON pointer."""

    @classmethod
    def of(cls, session: Session, request: JobRequest) -> "_Uploads":
        """Read the rows that a request names."""
        others = {
            pointer: session.get(ModelRow, model_id)
            for pointer, model_id in request.other_models.items()
        }
        return cls(
            request=request,
            model=session.get(ModelRow, request.model),
            metric=others.pop(METRIC_GRAPH_POINTER, None),
            others=others,
            datasets={
                pointer: session.get(DatasetRow, dataset_id)
                for pointer, dataset_id in request.datasets.items()
            },
        )

    def obstacle(self) -> Problem | ProblemDetails | None:
        """Return why the job cannot run; None if no reason is known."""
        return obstacles.of(self.request, self.model, self.datasets, self.others, self.metric)

    @property
    def graph_sha256(self) -> str:
        """The SHA-256 of the graph that the first step is given."""
        assert self.model is not None, "an unusable model is an obstacle"
        assert self.model.graph_sha256 is not None, "a ready model has its graphs"
        return self.model.graph_sha256

    def contents(self, job: JobRow) -> list[str]:
        """Return what a job reads, as hashes, and how it is read.

        Samples that are made from the model are the same within a job or a search alone: time may
        end their making, and what one job trains on another one may judge by.
        """
        assert self.model is not None, "an unusable model is an obstacle"
        models = [*self.others.values(), self.metric]
        others = [f"{row.id} {row.onnx_sha256} {row.graph_sha256}" if row else "" for row in models]
        data = [
            f"{each.sha256} {json.dumps(each.images, sort_keys=True)}" if each else ""
            for each in (self._dataset("#/dataset"), self._dataset(EVALUATE_DATASET_POINTER))
        ]
        made = [] if self.request.data is None else [made_samples.owner_of(job)]
        return [f"{self.model.onnx_sha256} {self.model.graph_sha256}", *others, *data, *made]

    def claim(
        self,
        session: Session,
        taken: Taken,
        job: JobRow,
        steps: Sequence[StepRow],
        keys: tuple[str, ...],
        lists: Mapping[int, price_lists.PriceList],
    ) -> Claim:
        """Return the job with all that its run reads.

        Args:
            session: of the transaction that begins the run.
            taken: the job, as the worker holds it.
            job: its row.
            steps: its finished steps, in order.
            keys: as in ``Claim.step_keys``.
            lists: as in ``Claim.price_lists``.
        """
        model, metric, request = self.model, self.metric, self.request
        assert model is not None, "an unusable model is an obstacle"
        assert model.onnx_sha256 is not None, "a ready model has its graphs"
        finished = tuple(
            (step.graph_sha256, FinishedStep.model_validate(step.finished))
            for index, step in enumerate(steps)
            if step.index == index and step.graph_sha256 is not None
        )
        return Claim(
            **vars(taken),
            model_sha256=model.sha256,
            model_size_bytes=_size_bytes(session, model),
            onnx_sha256=model.onnx_sha256,
            graph_sha256=self.graph_sha256,
            other_models={row.id: str(row.graph_sha256) for row in self.others.values() if row},
            source=self._source(),
            metric_sha256=metric.onnx_sha256 if metric else None,
            dataset=self._dataset("#/dataset"),
            evaluate_dataset=self._dataset(EVALUATE_DATASET_POINTER),
            steps=finished,
            step_keys=keys,
            price_lists=lists,
            seconds_left=request.limits.running_minutes * 60 - job.running_seconds,
            besides_seconds=overheads.seconds(session, job.tenant, job.model_id),
            expected=_expected(request, model, len(finished), job.parent_id is not None),
            of_trial=job.parent_id is not None,
            made_samples=_made_samples(session, job),
        )

    def _dataset(self, pointer: str) -> ClaimedDataset | None:
        row = self.datasets.get(pointer)
        return None if row is None else ClaimedDataset(row.sha256, row.images)

    def _source(self) -> ClaimedSource | None:
        """Return the upload of the model whose layers the result has, if that is asked for."""
        if "source" not in self.request.deliver:
            return None
        home = homecoming.home_of(self.request.steps or ())[0] or self.request.model
        rows = (self.model, *self.others.values())
        row = next(row for row in rows if row is not None and row.id == home)
        return ClaimedSource(row.sha256, row.hints)


def _made_samples(session: Session, job: JobRow) -> ClaimedSamples | None:
    row = made_samples.of_job(session, job)
    if row is None:
        return None
    return ClaimedSamples(row.sha256, Generated.model_validate(row.generated))


def _expected(
    request: JobRequest, model: ModelRow, finished: int, of_trial: bool
) -> Expected | None:
    """Return what making samples, and the steps that are not finished, take; None with data."""
    if request.data is None or model.description is None:
        return None
    steps = request.steps or []
    effort = effort_for(steps, of_trial=of_trial)
    known = ModelDescription.model_validate(model.description)
    graph = Outlook.of(known, model.size_bytes, effort.samples)
    ahead = islice(forecasts(steps, graph), finished, None)
    return Expected(
        samples_seconds=60 * effort.expected_minutes(known.macs),
        steps_seconds=60 * sum(expected.minutes for expected in ahead),
    )


def _finished(session: Session, job_id: str) -> Sequence[StepRow]:
    """Return the finished steps of a job, in order."""
    query = select(StepRow).where(StepRow.job_id == job_id).order_by(StepRow.index)
    return session.scalars(query).all()


def _size_bytes(session: Session, model: ModelRow) -> int:
    """Return the size of a model as ONNX; other formats may also hold an optimizer's state."""
    uploaded_as_onnx = not model.description or model.description["format"] == "onnx"
    if uploaded_as_onnx or model.onnx_sha256 is None:
        return model.size_bytes
    return blob_rows.size_of(session, model.onnx_sha256)
