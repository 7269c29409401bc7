"""Runs a claimed job: fetch, launch, relay events, store, finish.

Every write is made under the claim's token.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import nudge, tracing
from app.blobs import Blob
from app.domain.directory import (
    ARTIFACTS,
    GRAPH,
    MADE_SAMPLES,
    MOST_PRICE_BYTES,
    ORDER,
    PRICES,
    Produced,
    Result,
)
from app.domain.events import Progress
from app.domain.jobs import Usage
from app.domain.problems import EngineCrashed, InternalError, Problem, ProblemDetails
from app.domain.reports import Report
from app.domain.sensitivity import Sensitivity
from app.domain.targets import ToolName
from app.store import claims, counters, leases, runs
from app.store.leases import LeaseLost
from app.store.session import first_line, transaction
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
    retry,
)
from workers.runs.layout import lay_out, method_of
from workers.runs.order import order
from workers.runs.relay import Relay, StoredEvent
from workers.runs.storing import put
from workers.sandbox.directories import Place
from workers.worker import Worker

Answer = TypeVar("Answer")

MAX_ARTIFACTS = 16

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run; everything that the user may see is stored."""

    report: Report | None = None
    artifacts: Sequence[tuple[Produced, str, Blob]] = ()
    sensitivity: Sensitivity | None = None
    problem: Problem | ProblemDetails | None = None


class Job:
    """One claim on a job, and the directory in which it runs."""

    def __init__(self, worker: Worker, claimed: claims.Claim, place: Place) -> None:
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
        self._has_samples = claimed.made_samples is not None
        self._relay = Relay(place, self._store_events, self._keep_step, self._keep_samples)
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
                retry(partial(self._write_last_state, runs.cancelled), LAST_WRITE_SECONDS)
                log.info("job cancelled")
            except Stopping:
                retry(partial(self._write_last_state, runs.give_back), GIVE_BACK_SECONDS)
                nudge.send(self._worker.settings, "job", self._claimed.id)
                log.info("job given back")
            except Exception:
                log.exception("a fault of ours")
                retry(self._store_fault, LAST_WRITE_SECONDS)

    def _outcome(self) -> Outcome:
        """Run the engine; store the artifacts and return the outcome."""
        try:
            with self._worker.figures.timed("fetch"):
                self._hold.do(self._prepare)
            result = self._engine.answer()
            times = dict(result.layer_times)
            if result.tools:
                failures = self._run_tools(result.tools)
                self._hold.do(partial(self._write_order, failures))
                result = self._engine.answer()
                times |= result.layer_times
            self._hold.lift_deadline()
            self._hold.do(partial(self._keep_times, times))
            self._relay.flush()
            for index, _ in enumerate(self._claimed.request.steps or ()):
                self._keep_step(index)
            return self._stored(result)
        except Problem as problem:
            return Outcome(problem=problem)

    def _keep_times(self, times: Mapping[str, float]) -> None:
        """Keep times of layers for later jobs; if that fails, the job still has its result."""
        conditions = self._worker.conditions
        if not times or conditions is None:
            return
        try:
            self._write(runs.keep_layer_times, conditions, times)
        except SQLAlchemyError as error:
            log.warning("times of layers are not kept", error=first_line(error))

    def _prepare(self) -> None:
        """Fill the engine's directory, the order last."""
        lay_out(self._worker, self._claimed, self._place.engine)
        self._write_order({})

    def _write_order(self, failures: Mapping[ToolName, str]) -> None:
        """Write the order into a new file; a link left by an earlier run is not followed."""
        path = self._place.engine / ORDER
        path.unlink(missing_ok=True)
        with path.open("x") as file:
            file.write(order(self._worker, self._claimed, failures).model_dump_json())

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

    def _put(self, path: PurePosixPath, most_bytes: int | None = None) -> Blob:
        """Store a file of the engine.

        Raises:
            Unreadable: it is missing, or too large.
        """
        limit = most_bytes or self._worker.settings.engine.directory_bytes
        copy = answers.copy_of(self._place, path, limit)
        try:
            with self._worker.figures.timed("store"):
                return self._hold.do(partial(put, self._worker, copy, self._held))
        finally:
            copy.unlink(missing_ok=True)

    def _keep_step(self, index: int) -> None:
        """Store a finished step, once; a step with malformed files will be repeated."""
        if index in self._kept or index >= len(self._claimed.request.steps or ()):
            return
        method = method_of(self._claimed, index)
        try:
            finished = answers.finished_step(self._place, index, method)
            tracing.ended(f"step {method}", finished.seconds, {"step.index": index})
            graph = self._put(answers.step_file(index, method, GRAPH))
        except Unreadable as error:
            log.info("no finished step", step=index, reason=str(error))
            return
        self._hold.do(partial(self._write, runs.keep_step, index, graph, finished))
        self._kept.add(index)
        self._keep_prices(index, answers.step_file(index, method, PRICES))

    def _keep_prices(self, index: int, path: PurePosixPath) -> None:
        """Keep the price list of a step; without one, the job still has its result."""
        known = self._claimed.price_lists.get(index)
        if known is None:
            return
        try:
            prices = self._put(path, MOST_PRICE_BYTES)
        except Unreadable as error:
            log.info("no price list", step=index, reason=str(error))
            return
        quota = self._worker.settings.quota.stored_bytes
        self._hold.do(partial(self._write, runs.keep_price_list, known.key, prices, quota))

    def _keep_samples(self) -> None:
        """Store the samples that were made from the model, once; malformed ones are made again."""
        if self._has_samples or self._claimed.request.data is None:
            return
        self._has_samples = True
        try:
            origin = answers.generated(self._place)
            arrays = self._put(answers.samples_file(MADE_SAMPLES))
        except Unreadable as error:
            log.info("no samples are kept", reason=str(error))
            return
        self._hold.do(partial(self._write, runs.keep_samples, arrays, origin))

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
        store_fault(self._worker, self._claimed, self._engine.usage)

    def _write_last_state(self, write: Callable[[Session, claims.Claim, Usage], None]) -> None:
        self._write(write, self._engine.usage)

    def _held(self, session: Session) -> None:
        leases.hold(session, JobRow, self._claimed.id, self._claimed.token)

    def _write(self, write: Callable[..., Answer], *values: object) -> Answer:
        with transaction(self._worker.sessions) as session:
            return write(session, self._claimed, *values)


def _measured(result: Result) -> Outcome:
    """Return the outcome of a job that measures; an answer without a chart is a crash."""
    if result.problem is None and result.sensitivity is None:
        return Outcome(problem=EngineCrashed("The engine's answer names no result."))
    return Outcome(sensitivity=result.sensitivity, problem=result.problem)


def store_fault(worker: Worker, taken: claims.Taken, usage: Usage) -> None:
    """Queue a job again after an error of ours; fail it if its attempts are used up."""
    is_last = taken.attempt >= worker.settings.lease.attempts
    problem = InternalError(f"A fault of ours; the log has it under {taken.id}.")
    with transaction(worker.sessions) as session:
        runs.requeue_after_fault(
            session, taken, usage, problem, last=is_last, delay=FAULT_PAUSE_SECONDS
        )
