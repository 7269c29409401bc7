"""Runs a job from claim to result: fetch, launch, relay events, store, finish.

A call runs the next job in the order of turns, so any thread may call it at any time. Every
write is made under the claim's token.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import structlog
from pydantic import ValidationError
from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars

from app import nudge
from app.blobs import Blob
from app.domain.datasets import ImageOptions
from app.domain.directory import (
    ARTIFACTS,
    DATASET,
    EVALUATE_DATASET,
    GRAPH,
    METRIC,
    MODEL,
    ORDER,
    ORIGINAL,
    REPORT,
    SOURCE,
    Compress,
    InspectModel,
    MeasureSensitivity,
    Produced,
    Result,
    model_file,
    step_directory,
)
from app.domain.events import Progress
from app.domain.jobs import Usage
from app.domain.models import ModelHints
from app.domain.problems import EngineCrashed, InternalError, Problem, ProblemDetails
from app.domain.reports import Report
from app.domain.sensitivity import Sensitivity
from app.domain.targets import ToolName
from app.domain.workers import Confinement
from app.store import counters, deliveries, leases, runs, turns
from app.store.leases import LeaseLost
from app.store.session import AWAY, transaction
from app.store.tables import JobRow
from workers.runs import answers, tools
from workers.runs.answers import Unreadable
from workers.runs.attempts import Engine
from workers.runs.hold import (
    FAULT_PAUSE_SECONDS,
    GIVE_BACK_SECONDS,
    LAST_WRITE_SECONDS,
    Cancelled,
    Hold,
    Stopping,
    write_last,
)
from workers.runs.relay import Relay, StoredEvent
from workers.runs.storing import put
from workers.sandbox import directories
from workers.sandbox.directories import Place
from workers.tools import environments
from workers.worker import Worker, threads

Answer = TypeVar("Answer")

MAX_ARTIFACTS = 16

_SHARE = 0.8
"""The share of a job's time after which a measurement takes no further layers."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run; everything that the user may see is stored."""

    report: Report | None = None
    artifacts: Sequence[tuple[Produced, str, Blob]] = ()
    sensitivity: Sensitivity | None = None
    problem: Problem | ProblemDetails | None = None


def run_next(worker: Worker) -> bool:
    """Run the job whose turn it is; return False if no waiting job can run here."""
    job_id, claimed = _claim_next(worker)
    if job_id is None:
        return False
    with bound_contextvars(job=job_id):
        if claimed is not None:
            log.info("job claimed", attempt=claimed.attempt)
            with directories.place(worker.directory) as place:
                _Job(worker, claimed, place).run()
        _nudge_deliveries(worker, job_id)
    return True


def _claim_next(worker: Worker) -> tuple[str | None, runs.Claim | None]:
    """Choose a job and claim it; one that cannot be claimed is postponed."""
    settings = worker.settings
    job_id: str | None = None
    try:
        with transaction(worker.sessions) as session:
            job_id = turns.next_job(session, worker.offer, settings.share.weights)
            if job_id is None:
                return None, None
            claimed = runs.claim(session, job_id, worker.id, settings.lease.seconds, worker.maker)
            if claimed is not None:
                worker.note_claim(session, "job")
            return job_id, claimed
    except ValidationError as error:
        assert job_id is not None, "only a job's request is validated here"
        log.warning("job left to a worker of its version", job=job_id, errors=error.error_count())
    except AWAY:
        raise
    except Exception:
        if job_id is None:
            raise
        log.exception("a fault of ours: the job cannot be claimed", job=job_id)
    with transaction(worker.sessions) as session:
        runs.put_off(session, job_id, FAULT_PAUSE_SECONDS)
    return job_id, None


class _Job:
    """One claim on a job, and the directory in which it runs."""

    def __init__(self, worker: Worker, claimed: runs.Claim, place: Place) -> None:
        self._worker = worker
        self._claimed = claimed
        self._place = place
        self._kept = set(range(len(claimed.steps)))
        lease = worker.settings.lease
        self._hold = Hold(
            partial(self._write, runs.renew, lease.seconds),
            every=lease.renew_seconds,
            stopping=worker.stopping,
            seconds=claimed.seconds_left,
        )
        self._relay = Relay(place, self._store_events, self._keep_step)
        self._engine = Engine(
            worker,
            self._hold,
            place,
            memory_bytes=worker.settings.engine.memory_bytes,
            attempts=lease.attempts - claimed.attempt + 1,
            restarted=partial(self._write, runs.restarted),
            listen=self._relay,
        )

    def run(self) -> None:
        """Run the job and store its outcome."""
        worker = self._worker
        with self._hold:
            try:
                outcome = self._outcome()
                self._hold.lift_deadline()
                with worker.figures.timed("publish"):
                    self._hold.do(partial(self._publish, outcome))
            except LeaseLost:
                worker.figures.add(counters.LOST_LEASES, "job")
                log.warning("job lost: nothing is published")
            except Cancelled:
                write_last(partial(self._write_last_state, runs.cancelled), LAST_WRITE_SECONDS)
                log.info("job cancelled")
            except Stopping:
                write_last(partial(self._write_last_state, runs.give_back), GIVE_BACK_SECONDS)
                nudge.send(self._worker.settings, "job", self._claimed.id)
                log.info("job given back")
            except Exception:
                log.exception("a fault of ours")
                write_last(self._store_fault, LAST_WRITE_SECONDS)

    def _outcome(self) -> Outcome:
        """Run the engine; store the artifacts and return the outcome."""
        try:
            with self._worker.figures.timed("fetch"):
                self._hold.do(self._prepare)
            result = self._engine.answer()
            if result.tools:
                self._write_order(self._run_tools(result.tools))
                result = self._engine.answer()
            self._hold.lift_deadline()
            self._relay.flush()
            for index, _ in enumerate(self._claimed.request.steps or ()):
                self._keep_step(index)
            return self._stored(result)
        except Problem as problem:
            return Outcome(problem=problem)

    def _prepare(self) -> None:
        """Fill the engine's directory: inputs, order and finished steps."""
        claimed, root, fetch = self._claimed, self._place.engine, self._worker.blobs.fetch
        fetch(claimed.onnx_sha256, root / ORIGINAL)
        fetch(claimed.graph_sha256, root / MODEL)
        for model_id, sha256 in claimed.other_models.items():
            path = model_file(root, model_id)
            path.parent.mkdir(exist_ok=True)
            fetch(sha256, path)
        if claimed.source is not None:
            fetch(claimed.source.sha256, root / SOURCE)
        if claimed.metric_sha256 is not None:
            fetch(claimed.metric_sha256, root / METRIC)
        if claimed.dataset is not None:
            fetch(claimed.dataset.sha256, root / DATASET)
        if claimed.evaluate_dataset is not None:
            fetch(claimed.evaluate_dataset.sha256, root / EVALUATE_DATASET)
        for index, (sha256, finished) in enumerate(claimed.steps):
            step = step_directory(root, index, _method(claimed, index))
            step.mkdir(parents=True, exist_ok=True)
            fetch(sha256, step / GRAPH)
            (step / REPORT).write_text(finished.model_dump_json())
        tools.lay_out_files(self._worker.settings, claimed.request.deliver, root)
        self._write_order({})

    def _write_order(self, failures: Mapping[ToolName, str]) -> None:
        """Write the order into a new file; a link left by an earlier run is not followed."""
        order = self._place.engine / ORDER
        order.unlink(missing_ok=True)
        with order.open("x") as file:
            file.write(_order(self._worker, self._claimed, failures).model_dump_json())

    def _run_tools(self, requested: Sequence[ToolName]) -> dict[ToolName, str]:
        """Run the tools that the engine requests; return the failures by tool."""
        failures: dict[ToolName, str] = {}
        for tool in dict.fromkeys(requested):
            limits = self._engine.limits()
            seconds = min(limits.wall_seconds or tools.SECONDS, tools.SECONDS)
            limits = replace(limits, wall_seconds=seconds)
            self._store_events([Progress(progress=0.6, stage=f"converting with {tool}")])
            with tools.sandbox_of(self._worker.settings, tool) as sandbox:
                failure = tools.run(
                    sandbox, tool, self._place, self._hold, limits, self._engine.add
                )
            if failure is not None:
                failures[tool] = failure
        return failures

    def _stored(self, result: Result) -> Outcome:
        """Store the artifacts of a result; one without report or artifacts is a crash."""
        if self._claimed.request.measure is not None:
            return _measured(result)
        if result.problem is None and (result.report is None or not result.artifacts):
            return Outcome(problem=EngineCrashed("The engine's answer names no result."))
        try:
            stored = [self._artifact(produced) for produced in result.artifacts[:MAX_ARTIFACTS]]
        except Unreadable as error:
            log.warning("an artifact cannot be read", error=str(error))
            return Outcome(problem=EngineCrashed("The engine's result is not where it says."))
        return Outcome(result.report, stored, problem=result.problem)

    def _artifact(self, produced: Produced) -> tuple[Produced, str, Blob]:
        path = PurePosixPath(ARTIFACTS, produced.path)
        return produced, path.name[-255:], self._put(path)

    def _put(self, path: PurePosixPath) -> Blob:
        copy = self._copy_of(path)
        try:
            with self._worker.figures.timed("store"):
                return self._hold.do(partial(put, self._worker, copy, self._held))
        finally:
            copy.unlink(missing_ok=True)

    def _copy_of(self, path: PurePosixPath) -> Path:
        return answers.copy_of(self._place, path, self._worker.settings.engine.directory_bytes)

    def _keep_step(self, index: int) -> None:
        """Store a finished step, once; a step with malformed files will be repeated."""
        if index in self._kept or index >= len(self._claimed.request.steps or ()):
            return
        method = _method(self._claimed, index)
        try:
            finished = answers.finished_step(self._place, index, method)
            graph = self._put(answers.step_file(index, method, GRAPH))
        except Unreadable as error:
            log.info("no finished step", step=index, reason=str(error))
            return
        self._hold.do(partial(self._write, runs.keep_step, index, graph, finished))
        self._kept.add(index)

    def _store_events(self, engine_events: Sequence[StoredEvent]) -> None:
        self._hold.do(partial(self._write, runs.store_events, engine_events))

    def _publish(self, outcome: Outcome) -> None:
        self._write(
            runs.publish,
            outcome.report,
            outcome.artifacts,
            outcome.problem,
            self._engine.usage,
            outcome.sensitivity,
        )
        kind = outcome.problem.type if outcome.problem else None
        log.info("job finished", problem=kind, **self._engine.usage.model_dump())

    def _store_fault(self) -> None:
        last = self._claimed.attempt >= self._worker.settings.lease.attempts
        problem = InternalError(f"A fault of ours; the log has it under {self._claimed.id}.")
        with transaction(self._worker.sessions) as session:
            runs.requeue_after_fault(
                session,
                self._claimed,
                self._engine.usage,
                problem,
                last=last,
                delay=FAULT_PAUSE_SECONDS,
            )

    def _write_last_state(self, write: Callable[[Session, runs.Claim, Usage], None]) -> None:
        self._write(write, self._engine.usage)

    def _held(self, session: Session) -> None:
        leases.hold(session, JobRow, self._claimed.id, self._claimed.token)

    def _write(self, write: Callable[..., Answer], *values: object) -> Answer:
        with transaction(self._worker.sessions) as session:
            return write(session, self._claimed, *values)


def _method(claimed: runs.Claim, index: int) -> str:
    assert claimed.request.steps, "a search is not carried out here"
    return str(claimed.request.steps[index].method)


def _measured(result: Result) -> Outcome:
    """Return the outcome of a job that measures; an answer without a chart is a crash."""
    if result.problem is None and result.sensitivity is None:
        return Outcome(problem=EngineCrashed("The engine's answer names no result."))
    return Outcome(sensitivity=result.sensitivity, problem=result.problem)


def _order(
    worker: Worker, claimed: runs.Claim, failures: Mapping[ToolName, str]
) -> Compress | MeasureSensitivity:
    request, dataset, judged = claimed.request, claimed.dataset, claimed.evaluate_dataset
    if request.measure is not None:
        return MeasureSensitivity(
            seed=request.seed,
            images=_images(dataset),
            threads=threads(worker.settings),
            seconds=_SHARE * claimed.seconds_left,
        )
    return Compress(
        steps=request.steps or [],
        evaluate=request.evaluate,
        require=request.require,
        deliver=request.deliver,
        tools=environments.installed(environments.base(worker.settings.worker.tools)),
        tool_failures=dict(failures),
        source=_source(worker, claimed.source),
        seed=request.seed,
        data=request.data,
        images=_images(dataset),
        evaluate_images=_images(judged),
        seconds=claimed.seconds_left,
        threads=threads(worker.settings),
        model_sha256=claimed.model_sha256,
        model_size_bytes=claimed.model_size_bytes,
        dataset_sha256=dataset and dataset.sha256,
        evaluate_dataset_sha256=judged and judged.sha256,
    )


def _source(worker: Worker, source: runs.ClaimedSource | None) -> InspectModel:
    """Return how an upload is opened again; no code of it runs where confinement is not whole."""
    if source is None:
        return InspectModel()
    with worker.sandboxes.lend() as sandbox:
        confinement = Confinement.model_validate(sandbox.probe())
    return InspectModel(
        hints=ModelHints.model_validate(source.hints), may_run_code=confinement.whole
    )


def _images(dataset: runs.ClaimedDataset | None) -> ImageOptions:
    return ImageOptions.model_validate(dataset.images if dataset else {})


def _nudge_deliveries(worker: Worker, job_id: str) -> None:
    """Notify workers to send the webhooks of a finished job at once."""
    with transaction(worker.sessions) as session:
        due = deliveries.due_of(session, job_id)
    for delivery_id in due:
        nudge.send(worker.settings, "delivery", delivery_id)
