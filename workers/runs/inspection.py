"""Inspects an upload: claims it, has the engine examine it, stores the description or rejects it.

A call inspects the next upload in the order of turns. Every write is made under the claim's token.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import TypeVar

import structlog
from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars

from app import nudge, tracing
from app.blobs import Blob
from app.domain.directory import (
    MODEL,
    ORDER,
    ORIGINAL,
    UPLOAD,
    InspectDataset,
    InspectModel,
    Result,
)
from app.domain.models import ModelHints
from app.domain.problems import EngineCrashed, InternalError, Problem, ProblemDetails
from app.domain.workers import Confinement
from app.store import counters, inspections, leases, turns
from app.store.leases import LeaseLost
from app.store.session import AWAY, transaction
from app.store.tables import DatasetRow, ModelRow
from workers.runs import answers
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
from workers.runs.storing import put
from workers.sandbox import directories
from workers.sandbox.directories import Place
from workers.worker import Worker

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)


def inspect_next(worker: Worker) -> bool:
    """Inspect the upload whose turn it is, and notify workers of the jobs that waited for it.

    Returns False if no upload waits.
    """
    upload_id, claimed = _claim_next(worker)
    if upload_id is None:
        return False
    if claimed is not None:
        with bound_contextvars(upload=upload_id):
            _inspect(worker, claimed)
    return True


def _inspect(worker: Worker, claimed: inspections.Claim) -> None:
    attributes: tracing.Attributes = {
        "upload.id": claimed.id,
        "upload.attempt": claimed.attempts,
        "worker.id": worker.id,
    }
    parent = claimed.traceparent
    with tracing.span("inspection", "consumer", parent=parent, attributes=attributes):
        with directories.place(worker.directory) as place:
            waiting = _Inspection(worker, claimed, place).run()
        for job_id in waiting:
            nudge.send(worker.settings, "job", job_id)


def _claim_next(worker: Worker) -> tuple[str | None, inspections.Claim | None]:
    """Choose an upload and claim it; one that cannot be claimed is postponed."""
    settings = worker.settings
    chosen: tuple[inspections.Kind, str] | None = None
    try:
        with transaction(worker.sessions) as session:
            chosen = turns.next_upload(session, settings.share.weights)
            if chosen is None:
                return None, None
            table, upload_id = inspections.TABLES[chosen[0]], chosen[1]
            seconds = settings.lease.seconds
            claimed = inspections.claim(session, table, upload_id, worker.id, seconds)
            if claimed is not None:
                worker.note_claim(session, chosen[0])
            return upload_id, claimed
    except AWAY:
        raise
    except Exception:
        if chosen is None:
            raise
        log.exception("a fault of ours: the upload cannot be claimed", upload=chosen[1])
    with transaction(worker.sessions) as session:
        inspections.put_off(session, inspections.TABLES[chosen[0]], chosen[1], FAULT_PAUSE_SECONDS)
    return chosen[1], None


class _Inspection:
    """One claim on an upload, and the directory in which it is inspected."""

    def __init__(self, worker: Worker, claimed: inspections.Claim, place: Place) -> None:
        self._worker = worker
        self._claimed = claimed
        self._place = place
        settings = worker.settings
        self._hold = Hold(
            self._renew,
            every=settings.lease.renew_seconds,
            stopping=worker.stopping,
            seconds=settings.engine.inspect_seconds,
        )
        self._engine = Engine(
            worker,
            self._hold,
            place,
            memory_bytes=settings.engine.inspect_memory_bytes,
            attempts=settings.lease.attempts - claimed.attempts + 1,
            restarted=partial(self._write, inspections.restarted),
        )

    def run(self) -> Sequence[str]:
        """Inspect the upload and store the outcome; return the jobs that waited for it."""
        with self._hold:
            try:
                return self._verdict()
            except (LeaseLost, Cancelled):
                self._worker.figures.add(
                    counters.LOST_LEASES, self._claimed.table.__tablename__[:-1]
                )
                log.warning("upload deleted, or somebody else's: nothing is stored")
            except Stopping:
                retry(self._give_back, GIVE_BACK_SECONDS)
            except Exception:
                log.exception("a fault of ours")
                retry(self._store_fault, LAST_WRITE_SECONDS)
        return ()

    def _verdict(self) -> Sequence[str]:
        try:
            with self._worker.figures.timed("fetch"):
                self._hold.do(self._prepare)
            accept = self._accepted(self._engine.answer())
        except Problem as problem:
            accept = partial(self._write, inspections.reject, problem)
        self._hold.lift_deadline()
        with self._worker.figures.timed("publish"):
            return self._hold.do(accept)

    def _prepare(self) -> None:
        root = self._place.engine
        self._worker.blobs.fetch(self._claimed.sha256, root / UPLOAD)
        (root / ORDER).write_text(self._order().model_dump_json())

    def _order(self) -> InspectModel | InspectDataset:
        claimed = self._claimed
        if claimed.table is DatasetRow:
            return InspectDataset(filename=claimed.filename)
        with self._worker.sandboxes.lend() as sandbox:
            confinement = Confinement.model_validate(sandbox.probe())
        return InspectModel(
            filename=claimed.filename,
            hints=ModelHints.model_validate(claimed.hints),
            may_run_code=confinement.whole,
        )

    def _accepted(self, result: Result) -> Callable[[], Sequence[str]]:
        """Store the files of the engine, and return the write that accepts the upload."""
        if result.problem is not None:
            return partial(self._write, inspections.reject, result.problem)
        if result.dataset is not None and self._claimed.table is DatasetRow:
            return partial(self._write, inspections.accept_dataset, result.dataset)
        if result.model is not None and self._claimed.table is ModelRow:
            try:
                graphs = [self._put(name) for name in (ORIGINAL, MODEL)]
            except Unreadable as error:
                log.warning("a graph cannot be read", error=str(error))
            else:
                return partial(self._write, inspections.accept_model, result.model, *graphs)
        return partial(self._write, inspections.reject, _no_answer())

    def _put(self, name: str) -> Blob:
        limit = self._worker.settings.engine.directory_bytes
        copy = answers.copy_of(self._place, PurePosixPath(name), limit)
        try:
            with self._worker.figures.timed("store"):
                return self._hold.do(partial(put, self._worker, copy, self._held))
        finally:
            copy.unlink(missing_ok=True)

    def _held(self, session: Session) -> None:
        claimed = self._claimed
        leases.hold(session, claimed.table, claimed.id, claimed.token)

    def _renew(self) -> bool:
        self._write(inspections.renew, self._worker.settings.lease.seconds)
        return False

    def _give_back(self) -> None:
        with transaction(self._worker.sessions) as session:
            inspections.give_back(session, self._claimed, spent=False)

    def _store_fault(self) -> None:
        problem = InternalError(f"A fault of ours; the log has it under {self._claimed.id}.")
        with transaction(self._worker.sessions) as session:
            inspections.requeue_after_fault(
                session,
                self._claimed,
                problem,
                attempts=self._worker.settings.lease.attempts,
                delay_seconds=FAULT_PAUSE_SECONDS,
            )

    def _write(self, write: Callable[..., Answer], *values: object) -> Answer:
        with transaction(self._worker.sessions) as session:
            return write(session, self._claimed, *values)


def _no_answer() -> ProblemDetails:
    return EngineCrashed("The engine's answer names no result.").details()
