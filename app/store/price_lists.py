"""Price lists: what steps that choose among forms have measured, for later jobs of the same model.

A list holds for the same as an earlier step does, but for what is chosen in the end: the
preference of the step, the loss that the job allows, and what the wanted formats hold. One list is
kept for each key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.blobs import Blob
from app.domain.jobs import JobRequest
from app.domain.request_parts import Require
from app.store import blob_rows, earlier_steps, stats
from app.store.tables import JobRow, ModelRow, PriceListRow

_KEY = (PriceListRow.tenant, PriceListRow.key)

MOST = 64
"""The greatest number of lists of a tenant; the oldest ones are deleted."""

_OF_TRIALS = 0.5
"""The share of them above which trials add none: a search would push out those of other jobs."""


@dataclass(frozen=True)
class PriceList:
    """The price list of a step."""

    key: str
    sha256: str | None
    """Of the file; None where no job has made one."""


def keys(request: JobRequest, contents: Sequence[str], maker: str) -> dict[int, str]:
    """Return the key of the price list of each step that makes one; see ``earlier_steps.keys``."""
    steps = request.steps or []
    found = {}
    for index, step in enumerate(steps):
        if step.priced is not None:
            alike = {
                "steps": [*steps[:index], step.priced],
                "require": Require(),
                "deliver": ["onnx"],
            }
            priced = request.model_copy(update=alike)
            found[index] = earlier_steps.keys(priced, contents, maker)[index]
    return found


def known(session: Session, job: JobRow, keys: Mapping[int, str]) -> dict[int, PriceList]:
    """Return the price lists of a job's steps; those that exist stay while the job is held."""
    lists = {}
    for index, key in keys.items():
        row = session.get(PriceListRow, (job.tenant, key))
        if row is not None and not blob_rows.touch_published(session, row.sha256):
            row = None  # it was deleted at this moment
        lists[index] = PriceList(key, None if row is None else row.sha256)
    return lists


def keep(session: Session, job: JobRow, key: str, blob: Blob, quota_bytes: int) -> None:
    """Store a list in the place of the one before, unless it exceeds the tenant's quota.

    Many trials of a search make lists of their own, which are stored while there is room for them.
    """
    if session.get(ModelRow, job.model_id) is None:
        return
    stored = stats.lock_stored_bytes(session, job.tenant)
    before = session.get(PriceListRow, (job.tenant, key))
    mine = PriceListRow.tenant == job.tenant
    if job.parent_id is not None and before is None:
        count = session.scalar(select(func.count()).select_from(PriceListRow).where(mine)) or 0
        if count >= _OF_TRIALS * MOST:
            return
    if stored + blob.size_bytes - (before.size_bytes if before else 0) > quota_bytes:
        return
    blob_rows.touch(session, blob.sha256, blob.size_bytes)
    fresh = {"sha256": blob.sha256, "size_bytes": blob.size_bytes}
    row = insert(PriceListRow).values(tenant=job.tenant, key=key, model_id=job.model_id, **fresh)
    session.execute(row.on_conflict_do_update(index_elements=_KEY, set_=fresh))
    newest = select(PriceListRow.key).where(mine).order_by(PriceListRow.measured_at.desc())
    surplus = newest.offset(MOST)
    session.execute(delete(PriceListRow).where(mine, PriceListRow.key.in_(surplus)))
