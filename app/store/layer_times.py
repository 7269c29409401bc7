"""Times of single layers: kept by tenant and conditions, and given to later jobs."""

from collections.abc import Mapping

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.domain.layer_times import MOST
from app.store import locks
from app.store.measured import OLDEST
from app.store.tables import JobRow, LayerTimeRow

_KEY = (LayerTimeRow.tenant, LayerTimeRow.conditions, LayerTimeRow.form)


def known(session: Session, job_id: str, conditions: str) -> dict[str, float]:
    """Return what jobs of a job's tenant measured under some conditions, the latest ``MOST``."""
    tenant = select(JobRow.tenant).where(JobRow.id == job_id).scalar_subquery()
    query = (
        select(LayerTimeRow.form, LayerTimeRow.milliseconds)
        .where(
            LayerTimeRow.tenant == tenant,
            LayerTimeRow.conditions == conditions,
            LayerTimeRow.measured_at > OLDEST,
        )
        .order_by(LayerTimeRow.measured_at.desc(), LayerTimeRow.form)
        .limit(MOST)
    )
    return {row.form: row.milliseconds for row in session.execute(query)}


def keep(session: Session, tenant: str, conditions: str, times: Mapping[str, float]) -> None:
    """Store what a job measured; of two that measured the same the less disturbed one counts.

    The tenant's times that are too old are deleted, and of these conditions the oldest beyond
    ``MOST``.
    """
    if not times:
        return
    locks.take(session, f"layer_times:{tenant}")
    mine = LayerTimeRow.tenant == tenant
    session.execute(delete(LayerTimeRow).where(mine, LayerTimeRow.measured_at <= OLDEST))
    row = insert(LayerTimeRow).values(
        [
            {"tenant": tenant, "conditions": conditions, "form": form, "milliseconds": each}
            for form, each in times.items()
        ]
    )
    least = func.least(LayerTimeRow.milliseconds, row.excluded.milliseconds)
    session.execute(row.on_conflict_do_update(index_elements=_KEY, set_={"milliseconds": least}))
    here = mine & (LayerTimeRow.conditions == conditions)
    surplus = (
        select(LayerTimeRow.form)
        .where(here)
        .order_by(LayerTimeRow.measured_at.desc(), LayerTimeRow.form)
        .offset(MOST)
    )
    session.execute(delete(LayerTimeRow).where(here, LayerTimeRow.form.in_(surplus)))
