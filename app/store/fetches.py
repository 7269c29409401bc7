"""What a worker does with a model or dataset whose bytes it has to fetch: claims it, fetches it.

They come from an address, or from an upload that a client sent to the storage itself.

The row of the model or dataset exists already, without bytes: its digest is that of nothing, and no
inspection claims it. Whoever locks both rows locks that one first.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, aliased

from app.blobs import Incoming
from app.domain.problems import Problem, Unavailable
from app.domain.sources import Source
from app.settings import Settings
from app.store import blob_rows, inspections, leases, locks, quotas, turns, uploads, usage
from app.store.leases import LeaseLost
from app.store.tables import DatasetRow, FetchRow, ModelRow, UploadRow

MOST_OF_A_TENANT = 4
"""Fetches of one tenant at one time: slow addresses leave room for other tenants."""

_NOTHING = hashlib.sha256(b"").hexdigest()
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Claim:
    """A claimed fetch."""

    id: str
    kind: inspections.Kind
    tenant: str
    token: int
    attempts: int
    source: Source


def add(session: Session, row: inspections.InspectedRow, source: Source) -> None:
    """Store a model or dataset without bytes, and that they are to be fetched."""
    blob_rows.touch(session, _NOTHING, 0)
    row.sha256, row.size_bytes, row.not_before = _NOTHING, 0, _NEVER
    session.add(row)
    session.flush()
    kind = next(kind for kind, table in inspections.TABLES.items() if isinstance(row, table))
    session.add(
        FetchRow(id=row.id, kind=kind, tenant=row.tenant, url=source.url, sha256=source.sha256)
    )
    session.flush()


def waiting(session: Session, tenant: str) -> int:
    """Count the tenant's fetches that have not ended; another count waits until this commits."""
    locks.take(session, f"fetches:{tenant}")
    query = select(func.count()).where(FetchRow.tenant == tenant)
    return session.execute(query).scalar_one()


def claim_next(session: Session, owner: str, seconds: float) -> Claim | None:
    """Claim the next fetch: of the tenant with the fewest in progress the oldest, or None."""
    waits = leases.is_due(FetchRow) & ~leases.is_held(FetchRow)
    if not session.scalar(select(select(FetchRow.id).where(waits).exists())):
        return None
    turns.choose_alone(session, "fetch")
    other = aliased(FetchRow)
    running = (
        select(func.count())
        .where(other.tenant == FetchRow.tenant, leases.is_held(other))
        .scalar_subquery()
    )
    row = session.scalars(
        select(FetchRow)
        .where(waits, running < MOST_OF_A_TENANT)
        .order_by(running, FetchRow.created_at, FetchRow.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=FetchRow)
    ).one_or_none()
    if row is None:
        return None
    token = leases.take(session, row, owner, seconds)
    kind: inspections.Kind = "model" if row.kind == "model" else "dataset"
    source = Source(url=row.url, sha256=row.sha256)
    return Claim(row.id, kind, row.tenant, token, row.attempts, source)


def renew(session: Session, claimed: Claim, seconds: float) -> None:
    """Renew the lease, or raise LeaseLost: the upload was deleted, or another worker holds it."""
    leases.renew(session, FetchRow, claimed.id, claimed.token, seconds)


def announce(session: Session, settings: Settings, claimed: Claim, incoming: Incoming) -> None:
    """Protect the bytes from collectors, before they are published.

    Raises:
        LeaseLost: as ``renew``.
        TooManyRequests: The tenant's storage quota does not hold them.
    """
    leases.hold(session, FetchRow, claimed.id, claimed.token)
    if _reserved(session, claimed) is None:
        quotas.require_room(session, settings, claimed.tenant, incoming.size_bytes)
    blob_rows.touch(session, incoming.sha256, incoming.size_bytes)


def finish(session: Session, settings: Settings, claimed: Claim, incoming: Incoming) -> None:
    """Give the upload its published bytes; it then waits for its inspection.

    Raises:
        LeaseLost, TooManyRequests: as ``announce``.
        Unavailable: The bytes were deleted meanwhile.
    """
    row = _end(session, claimed)
    upload = _reserved(session, claimed)
    if upload is None:
        quotas.require_room(session, settings, claimed.tenant, incoming.size_bytes)
    else:
        uploads.use(session, upload, incoming.sha256)
    if not blob_rows.touch_published(session, incoming.sha256):
        raise Unavailable("The file was stored too slowly, and was deleted meanwhile.")
    row.sha256, row.size_bytes = incoming.sha256, incoming.size_bytes
    row.not_before = func.clock_timestamp()
    session.flush()
    usage.add(session, row.tenant)


def fail(session: Session, claimed: Claim, problem: Problem) -> Sequence[str]:
    """Reject the upload, and return the jobs that will fail with it.

    Raises:
        LeaseLost: as ``renew``.
    """
    return inspections.reject_row(session, _end(session, claimed), problem)


def give_back(session: Session, claimed: Claim, *, spent: bool, delay_seconds: float = 0) -> None:
    """Release the fetch for another worker; ``spent`` says whether the attempt counts."""
    row = leases.hold(session, FetchRow, claimed.id, claimed.token)
    leases.give_back(row, spent=spent, delay_seconds=delay_seconds)


def lock_upload(session: Session, kind: str, upload_id: str) -> inspections.InspectedRow | None:
    """Lock the row of a model or dataset until commit; return None if it was deleted."""
    if kind == "model":
        return session.get(ModelRow, upload_id, with_for_update=True)
    return session.get(DatasetRow, upload_id, with_for_update=True)


def forget(session: Session, upload_id: str) -> None:
    """Fetch no bytes for an upload that is deleted."""
    session.execute(delete(FetchRow).where(FetchRow.id == upload_id))


def _reserved(session: Session, claimed: Claim) -> UploadRow | None:
    """Lock the upload that brought the bytes and reserved room for them, if there is one."""
    if claimed.source.upload_id is None:
        return None
    row = uploads.find(session, claimed.tenant, claimed.source.upload_id, lock=True)
    return None if row is None or row.sha256 is not None else row


def _end(session: Session, claimed: Claim) -> inspections.InspectedRow:
    """Lock the upload's row, and delete the claimed fetch."""
    row = lock_upload(session, claimed.kind, claimed.id)
    if row is None:
        raise LeaseLost(claimed.id)
    session.delete(leases.hold(session, FetchRow, claimed.id, claimed.token))
    return row
