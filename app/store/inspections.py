"""What a worker does with the row of an upload: claims it, describes it or rejects it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from app.blobs import Blob
from app.domain.datasets import DatasetDescription
from app.domain.models import ModelDescription
from app.domain.problems import Problem, ProblemDetails
from app.store import blob_rows, deliveries, leases, named
from app.store.tables import DatasetRow, JobRow, Json, ModelRow
from app.store.views import model_view

InspectedRow = ModelRow | DatasetRow
Row = TypeVar("Row", bound=InspectedRow)

Kind = Literal["model", "dataset"]
"""The kind of an upload, as in nudges."""

TABLES: dict[Kind, type[InspectedRow]] = {
    "model": ModelRow,
    "dataset": DatasetRow,
}
"""The tables of inspected uploads, by kind."""


@dataclass(frozen=True)
class Claim:
    """A claimed upload, with everything that its inspection needs."""

    table: type[InspectedRow]
    id: str
    token: int
    attempts: int
    sha256: str
    filename: str | None
    hints: Json
    """The hints of the user on a model."""
    traceparent: str | None
    """The span of the request that brought the upload."""


def claim(
    session: Session, table: type[InspectedRow], row_id: str, owner: str, seconds: float
) -> Claim | None:
    """Claim an upload that waits for its inspection; return None if there is nothing to do."""
    row = _lock_free(session, table, row_id)
    if row is None:
        return None
    token = leases.take(session, row, owner, seconds)
    hints = row.hints if isinstance(row, ModelRow) else {}
    return Claim(
        table, row.id, token, row.attempts, row.sha256, row.filename, hints, row.traceparent
    )


def renew(session: Session, claimed: Claim, seconds: float) -> None:
    """Renew the lease, or raise LeaseLost: the upload was deleted, or another worker holds it."""
    leases.renew(session, claimed.table, claimed.id, claimed.token, seconds)


def restarted(session: Session, claimed: Claim) -> None:
    """Count another attempt: the engine died and is started again."""
    _hold(session, claimed).attempts += 1


def accept_model(
    session: Session, claimed: Claim, description: ModelDescription, onnx: Blob, graph: Blob
) -> Sequence[str]:
    """Make a model ready, and return the jobs that waited for it."""
    row = _hold(session, claimed)
    assert isinstance(row, ModelRow), "a claim names its table"
    for blob in (onnx, graph):
        blob_rows.touch(session, blob.sha256, blob.size_bytes)
    row.onnx_sha256, row.graph_sha256 = onnx.sha256, graph.sha256
    copies = {blob.sha256: blob.size_bytes for blob in (onnx, graph) if blob.sha256 != row.sha256}
    row.copies_bytes = sum(copies.values())
    return _settle(session, row, "ready", description)


def accept_dataset(
    session: Session, claimed: Claim, description: DatasetDescription
) -> Sequence[str]:
    """Make a dataset ready, and return the jobs that waited for it."""
    return _settle(session, _hold(session, claimed), "ready", description)


def reject(session: Session, claimed: Claim, problem: Problem | ProblemDetails) -> Sequence[str]:
    """Reject an upload with its problem, and return the jobs that will fail with it."""
    return reject_row(session, _hold(session, claimed), problem)


def reject_row(
    session: Session, row: InspectedRow, problem: Problem | ProblemDetails
) -> Sequence[str]:
    """Reject an upload whose row is locked; see ``reject``."""
    details = problem.details() if isinstance(problem, Problem) else problem
    row.problem = details.model_dump(mode="json")
    return _settle(session, row, "rejected", None)


def give_back(session: Session, claimed: Claim, *, spent: bool, delay_seconds: float = 0) -> None:
    """Release the upload for another worker; ``spent`` says whether the attempt counts."""
    leases.give_back(_hold(session, claimed), spent=spent, delay_seconds=delay_seconds)


def requeue_after_fault(
    session: Session, claimed: Claim, problem: Problem, *, attempts: int, delay_seconds: float
) -> None:
    """Make the upload wait after an internal error; reject it if its attempts are used up."""
    if claimed.attempts >= attempts:
        reject(session, claimed, problem)
    else:
        give_back(session, claimed, spent=True, delay_seconds=delay_seconds)


def put_off(session: Session, table: type[InspectedRow], row_id: str, seconds: float) -> None:
    """Make an upload that cannot be claimed wait, so that others get their turn."""
    leases.put_off(session, table, row_id, waiting(table), seconds)


def _lock_free(session: Session, table: type[Row], row_id: str) -> Row | None:
    query = select(table).where(table.id == row_id, waiting(table))
    return session.scalars(query.with_for_update(skip_locked=True)).one_or_none()


def waiting(table: type[Row]) -> ColumnElement[bool]:
    """Return the condition of uploads that wait for their inspection and may be claimed now."""
    return and_(table.status == "inspecting", leases.is_due(table), ~leases.is_held(table))


def _settle(
    session: Session,
    row: InspectedRow,
    status: str,
    description: ModelDescription | DatasetDescription | None,
) -> Sequence[str]:
    row.status = status
    row.description = description.model_dump(mode="json") if description else None
    leases.release(row)
    session.flush()
    if isinstance(row, ModelRow):
        about = model_view(row).model_dump(mode="json")
        deliveries.enqueue(session, row.tenant, f"model.{status}", None, about)
    reads = named.reads_model if isinstance(row, ModelRow) else named.reads_dataset
    return session.scalars(
        select(JobRow.id).where(JobRow.status == "queued", reads(row.id)).limit(1000)
    ).all()


def _hold(session: Session, claimed: Claim) -> InspectedRow:
    return leases.hold(session, claimed.table, claimed.id, claimed.token)
